"""A batch never needs more than the memory at hand: arithmetic, and what Linux tells."""

from __future__ import annotations

import sys

import pytest

from pipeline.memory import (
    BYTES_PER_PIXEL,
    available,
    fitting_batch,
    left_in_group,
    memory_at_hand,
)

IMAGE = 224 * 224 * BYTES_PER_PIXEL


@pytest.mark.parametrize(
    "at_hand, batch",
    [(None, 32), (1 << 40, 32), (64 * IMAGE, 32), (64 * IMAGE - 1, 16), (2 * IMAGE, 1), (0, 1)],
)
def test_the_batch_takes_at_most_half_of_the_memory(at_hand: int | None, batch: int) -> None:
    assert fitting_batch(32, 224, at_hand) == batch


def test_larger_images_come_in_smaller_batches() -> None:
    assert [fitting_batch(32, size, 64 * IMAGE) for size in (32, 224, 448, 4096)] == [32, 32, 8, 1]


def test_what_the_machine_has_is_read_from_meminfo() -> None:
    assert available("MemTotal:  24000 kB\nMemAvailable:   1000 kB\n") == 1_024_000
    assert available("") is None


@pytest.mark.parametrize(
    "limit, usage, stat, left",
    [
        ("max\n", "5\n", "", None),
        ("", "", "", None),
        ("1000\n", "600\n", "anon 500\ninactive_file 70\nactive_file 30\n", 500),
        ("1000", "1200", "", 0),
    ],
)
def test_a_control_group_counts_what_can_be_given_back(
    limit: str, usage: str, stat: str, left: int | None
) -> None:
    assert left_in_group(limit, usage, stat) == left


def test_this_machine_tells() -> None:
    at_hand = memory_at_hand()
    assert (at_hand is not None and at_hand > 0) == sys.platform.startswith("linux")
