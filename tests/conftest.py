"""Settings of the whole suite, which runs in one process a core."""

import os

import pytest
from hypothesis import HealthCheck, settings

# A verdict must not depend on how busy the machine is.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# Two processes with a pool of threads each would wait for one another.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest test first, so that no core waits for it at the end."""
    items.sort(key=lambda item: "test_every_block_runs" not in item.nodeid)
