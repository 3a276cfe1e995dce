"""What each image is used for, and what is told of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset import Dataset
from pipeline.errors import UsageError
from pipeline.events import Event, Notice
from pipeline.roles import assign_roles, holdout_split


def images(labels: str, **known: tuple[str, ...]) -> Dataset:
    paths = tuple(Path(f"{i}.png") for i in range(len(labels)))
    return Dataset("pets", paths, tuple(labels), **known)


def keys_of(files: list[int]) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (max(files) + 1, 32), np.uint8)[files]


def test_the_split_of_exports_is_that_of_heads_where_groups_share_a_file() -> None:
    """Groups that share a file are one: hashed by their own names they would be torn apart."""
    for seed in range(20):
        groups = tuple(f"g{i // 2}" for i in range(60))
        files = list(range(60))
        for low, high in ((0, 31), (10, 41), (20, 51)):
            files[high] = files[low]
        dataset, keys = images("ab" * 30, groups=groups), keys_of(files)
        roles = assign_roles(
            dataset, keys, folds=2, set_aside=True, seed=seed, observe=lambda _: None
        )
        split = holdout_split(dataset, keys, seed)
        assert split.tolist() == roles.role.tolist()
        for low, high in ((0, 31), (10, 41), (20, 51)):
            assert split[low] == split[high]


def test_a_class_that_the_holdout_leaves_too_small_is_told_of_with_the_way_out() -> None:
    dataset, keys = images("a" * 40 + "b" * 5), keys_of(list(range(45)))
    with pytest.raises(UsageError, match=r"'b' of pets has 5 images, of which \d went to the hold"):
        assign_roles(dataset, keys, folds=5, set_aside=True, seed=0, observe=lambda _: None)
    roles = assign_roles(dataset, keys, folds=5, set_aside=False, seed=0, observe=lambda _: None)
    assert roles.count("train") == 45


def test_groups_that_the_users_split_divides_are_told() -> None:
    told: list[Event] = []
    splits = ("train", "test") * 10
    groups = tuple(f"patient {i // 4}" for i in range(20))
    dataset = images("ab" * 5 + "ba" * 5, groups=groups, splits=splits)
    assign_roles(
        dataset, keys_of(list(range(20))), folds=2, set_aside=True, seed=0, observe=told.append
    )
    (notice,) = (event for event in told if isinstance(event, Notice))
    assert "5 groups such as 'patient 0'" in notice.text
