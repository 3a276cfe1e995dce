"""Settings of the whole suite, which runs in one process a core."""

import os

import pytest

# Two processes with a pool of threads each would wait for one another.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest test first, so that no core waits for it at the end."""
    items.sort(key=lambda item: "test_every_block_runs" not in item.nodeid)
