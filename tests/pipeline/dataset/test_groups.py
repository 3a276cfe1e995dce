"""Groupings that share an image are one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.groups import joined, numbered, sizes, smallest, united

GROUPING = st.lists(st.integers(0, 6), min_size=12, max_size=12).map(np.array)


def together(groups: np.ndarray) -> set[tuple[int, int]]:
    i, j = np.nonzero(groups[:, None] == groups[None])
    return set(zip(i.tolist(), j.tolist(), strict=True))


@given(GROUPING, GROUPING, GROUPING)
def test_what_any_grouping_has_together_is_together_and_nothing_else(a, b, c) -> None:
    tied = {(i, j) for part in (a, b, c) for i, j in together(part)}
    for _ in range(12):  # the ties of ties, until there are no more
        tied |= {(i, k) for i, j in tied for j2, k in tied if j == j2} if len(tied) < 144 else set()
    assert together(united(a, b, c)) == tied


def test_ties_make_groups_one() -> None:
    assert together(joined(np.array([0, 1, 2, 3]), np.array([0]), np.array([3]))) == together(
        np.array([0, 1, 2, 0])
    )


def test_no_image_is_no_group() -> None:
    empty = np.empty(0, np.int64)
    assert united(empty, empty).tolist() == smallest(empty, empty).tolist() == []
    assert sizes(empty).tolist() == numbered([]).tolist() == []


def test_each_image_gets_the_smallest_number_and_the_size_of_its_group() -> None:
    groups = np.array([5, 2, 5, 2, 9])
    assert smallest(np.array([4, 3, 1, 8, 7]), groups).tolist() == [1, 3, 1, 3, 7]
    assert sizes(groups).tolist() == [2, 2, 2, 2, 1]
    assert numbered(["b", "a", "b"]).tolist() == [1, 0, 1]
