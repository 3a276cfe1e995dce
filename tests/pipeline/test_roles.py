"""What each image is used for, and what is told of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset import Dataset
from pipeline.dataset.duplicates import Duplicates
from pipeline.errors import UsageError
from pipeline.events import Event, Notice
from pipeline.roles import Roles, assign_roles, holdout_split


def images(labels: str, **known: tuple[str, ...]) -> Dataset:
    paths = tuple(Path(f"{i}.png") for i in range(len(labels)))
    return Dataset("pets", paths, tuple(labels), **known)


def keys_of(files: list[int]) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (max(files) + 1, 32), np.uint8)[files]


def alike(files: list[int], near: list[int] | None = None) -> Duplicates:
    """Say which images are one picture; images of one file always are."""
    file = np.array(files)
    distance = np.zeros(len(file), np.float32)
    return Duplicates(file, file, file if near is None else np.array(near), distance)


def roles_of(
    dataset: Dataset,
    duplicates: Duplicates,
    told: list[Event] | None = None,
    *,
    folds: int = 2,
    set_aside: bool = True,
    grouped: bool = True,
    seed: int = 0,
) -> Roles:
    keys = keys_of(duplicates.file.tolist())
    observe = (lambda _: None) if told is None else told.append
    return assign_roles(
        dataset, keys, duplicates, folds=folds, set_aside=set_aside, grouped=grouped, seed=seed,
        observe=observe,
    )  # fmt: skip


def notices(told: list[Event]) -> list[str]:
    return [event.text for event in told if isinstance(event, Notice)]


def test_the_split_of_exports_is_that_of_heads_where_groups_share_a_file() -> None:
    """Groups that share a file are one: hashed by their own names they would be torn apart."""
    for seed in range(20):
        groups = tuple(f"g{i // 2}" for i in range(60))
        files = list(range(60))
        for low, high in ((0, 31), (10, 41), (20, 51)):
            files[high] = files[low]
        dataset, keys = images("ab" * 30, groups=groups), keys_of(files)
        roles = roles_of(dataset, alike(files), seed=seed)
        split = holdout_split(dataset, keys, alike(files), seed)
        assert split.tolist() == roles.role.tolist()
        for low, high in ((0, 31), (10, 41), (20, 51)):
            assert split[low] == split[high]


def test_a_class_that_the_holdout_leaves_too_small_is_told_of_with_the_way_out() -> None:
    dataset, each = images("a" * 40 + "b" * 5), alike(list(range(45)))
    with pytest.raises(UsageError, match=r"'b' of pets has 5 images, of which \d went to the hold"):
        roles_of(dataset, each, folds=5)
    roles = roles_of(dataset, each, folds=5, set_aside=False)
    assert roles.count("train") == 45


def test_training_images_grouped_with_test_images_of_the_users_are_left_out_and_told() -> None:
    splits = ("train",) * 30 + ("test",) * 10
    groups = tuple(f"patient {i if i < 35 else i - 35}" for i in range(40))
    told: list[Event] = []
    roles = roles_of(images("ab" * 20, groups=groups, splits=splits), alike([*range(40)]), told)
    assert np.flatnonzero(roles.role == "").tolist() == [0, 1, 2, 3, 4]
    assert roles.count("test") == 10
    (notice,) = notices(told)
    assert "left out: 5 images" in notice
    assert "0.png (train, grouped with 35.png of test)" in notice


def test_validation_images_that_are_near_test_images_are_left_out_too() -> None:
    splits = ("train",) * 20 + ("val",) * 10 + ("test",) * 10
    near = [*range(40)]
    near[20], near[0], near[1] = 35, 36, 29
    roles = roles_of(images("ab" * 20, splits=splits), alike([*range(40)], near))
    assert np.flatnonzero(roles.role == "").tolist() == [0, 1, 20]


def test_no_near_duplicates_lie_on_both_sides_of_the_holdout() -> None:
    near = [i // 3 for i in range(90)]
    dataset, pictures = images("ab" * 45), alike([*range(90)], near)
    for seed in range(5):
        role = roles_of(dataset, pictures, seed=seed).role.reshape(30, 3)
        assert (role == role[:, :1]).all()
        assert 0 < (role == "test").sum() < 60
    torn = roles_of(dataset, pictures, grouped=False).role.reshape(30, 3)
    assert (torn != torn[:, :1]).any()


def test_the_holdout_of_images_that_are_like_none_does_not_depend_on_others() -> None:
    dataset = images("ab" * 45)
    alone = roles_of(dataset, alike([*range(90)])).role
    near = [0, 0, 2, 3, 3, *range(5, 90)]
    role = roles_of(dataset, alike([*range(90)], near)).role
    assert (role[5:] == alone[5:]).all()
    assert role[2] == alone[2]


def test_without_groups_equal_files_stay_together_and_nothing_else_does() -> None:
    dataset = images("ab" * 30, groups=("one", "one", "other", "other") * 15)
    files = [*range(58), 0, 1]
    roles = roles_of(dataset, alike(files, [0] * 60), grouped=False)
    assert roles.groups.tolist() == files
    assert len(np.unique(roles.found)) == 1
    assert roles.role[58] == roles.role[0]


def test_one_picture_under_two_labels_is_told_once_with_its_paths() -> None:
    told: list[Event] = []
    files = [*range(18), 0, 1]
    near = [*range(18), 0, 1]
    near[3] = 2
    roles_of(images("a" * 10 + "b" * 10), alike(files, near), told, set_aside=False)
    assert notices(told) == [
        "the same image under different labels: 0.png (a) and 18.png (b)",
        "the same image under different labels: 1.png (a) and 19.png (b)",
    ]
    told.clear()
    near[3] = 12
    roles_of(images("a" * 10 + "b" * 10), alike([*range(20)], near), told, set_aside=False)
    assert "nearly the same image under different labels: 3.png (a) and 12.png (b)" in notices(told)


def test_of_many_contradictions_a_few_are_told_and_the_rest_counted() -> None:
    told: list[Event] = []
    roles_of(images("a" * 10 + "b" * 10), alike([*range(10)] * 2), told, set_aside=False)
    assert len(notices(told)) == 4
    assert notices(told)[-1] == "7 more pictures stand under different labels (the same image)"
