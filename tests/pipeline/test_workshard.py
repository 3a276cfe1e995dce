"""Shards of the work: together the whole, no overlap, whatever the files are called."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.workshard import WorkShard


def keys_of(contents: list[bytes]) -> np.ndarray:
    digests = b"".join(hashlib.sha256(content).digest() for content in contents)
    return np.frombuffer(digests, np.uint8).reshape(-1, 32)


@given(st.lists(st.binary(), max_size=50), st.integers(1, 40))
def test_the_parts_together_are_the_whole_and_do_not_overlap(
    contents: list[bytes], count: int
) -> None:
    masks = [WorkShard(i, count).mask(keys_of(contents)) for i in range(1, count + 1)]
    assert (np.sum(masks, axis=0) == 1).all()


@given(st.lists(st.binary(), min_size=1, max_size=30), st.integers(1, 10), st.randoms())
def test_an_image_is_of_the_same_part_whatever_lies_beside_it(contents, count, random) -> None:
    shard = WorkShard(random.randint(1, count), count)
    mine = {c for c, m in zip(contents, shard.mask(keys_of(contents)), strict=True) if m}
    some = random.sample(contents, random.randint(1, len(contents)))
    again = {c for c, m in zip(some, shard.mask(keys_of(some)), strict=True) if m}
    assert again == mine & set(some)


def test_the_parts_are_of_nearly_equal_size() -> None:
    keys = keys_of([str(i).encode() for i in range(4000)])
    sizes = [WorkShard(i, 4).mask(keys).sum() for i in range(1, 5)]
    assert min(sizes) > 900


@pytest.mark.parametrize(
    "text", ["0/4", "5/4", "1/0", "0/0", "1", "a/b", "-1/4", "1/4/2", "", "1.5/2"]
)
def test_no_such_part_is_one_clear_sentence(text: str) -> None:
    with pytest.raises(UsageError, match=r"--shard .*write I/N") as told:
        WorkShard.parse(text)
    assert "\n" not in str(told.value)


def test_parts_count_from_one() -> None:
    assert WorkShard.parse("4/4") == WorkShard(4, 4)
