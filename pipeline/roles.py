"""What each image of a data set is for: training, validation, the last test; or left out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset import Dataset, holdout, require_labels
from pipeline.dataset.duplicates import Duplicates
from pipeline.dataset.groups import numbered, smallest, united
from pipeline.errors import UsageError
from pipeline.events import Notice, Observer, ignore
from pipeline.images.hashing import in_key_order
from pipeline.text import plural

HOLDOUT_FRACTION = 0.2
_TOLD = 3


@dataclass(frozen=True, slots=True)
class Roles:
    """The use of each image.

    Attributes
    ----------
    role
        ``(n,)`` of ``"train"``, ``"val"``, ``"test"``; empty for an image that is left out, since
        one that it would be scored on is of its group.
    groups
        int64 ``(n,)``: images of one number stay on one side of every fold.
    found
        int64 ``(n,)``: the groups that there are, kept together or not.
    """

    role: NDArray[np.str_]
    groups: NDArray[np.int64]
    found: NDArray[np.int64]

    @property
    def used(self) -> NDArray[np.int64]:
        """Ascending positions of the images that are not left out."""
        return np.flatnonzero(self.role != "")

    def count(self, role: str) -> int:
        """Count the images with a role; ``""`` counts those left out."""
        return int((self.role == role).sum())


def assign_roles(
    dataset: Dataset,
    keys: NDArray[np.uint8],
    duplicates: Duplicates,
    *,
    folds: int,
    set_aside: bool,
    grouped: bool,
    seed: int,
    observe: Observer,
) -> Roles:
    """Decide the use of each image, so that no image is scored by a head that saw its like.

    A split of the user's is kept, but for images that are in the group of one of a later split:
    they are left out. Without a ``test`` split, the design's rule sets 20 % of the rest aside if
    `set_aside`; images of the user's ``val`` split stay where they are.

    Parameters
    ----------
    dataset, keys, duplicates
        The images with their labels; uint8 ``(n, 32)``, their keys; which of them are one picture.
    grouped
        Whether duplicates and the user's groups are kept together. Else only equal files are.

    Raises
    ------
    UsageError
        A class is left with fewer training images than `folds`, or no val image is left.
    """
    role = np.array(dataset.splits or ["train"] * len(keys), dtype="<U5")
    found = _groups(dataset, duplicates)
    groups = found if grouped else duplicates.file
    _tell_contradictions(dataset, duplicates, observe)
    _leave_out(dataset, role, groups, observe)
    if set_aside and not (role == "test").any():
        before = role.copy()
        _set_aside(dataset, keys, role, groups, seed, observe)
        _refuse_too_small(dataset, before, role, folds)
    if "val" in (dataset.splits or ()) and not (role == "val").any():
        raise UsageError(
            f"every val image of {dataset.name} is in a group with a test image; none is left"
        )
    roles = Roles(role, groups, found)
    require_labels(replace(dataset, splits=tuple(role)).take(roles.used), folds)
    return roles


def _groups(dataset: Dataset, duplicates: Duplicates) -> NDArray[np.int64]:
    """Unite duplicates and what the user grouped: what no fold may divide."""
    pictures = duplicates.pictures()
    return pictures if dataset.groups is None else united(pictures, numbered(dataset.groups))


def holdout_split(
    dataset: Dataset, keys: NDArray[np.uint8], duplicates: Duplicates, seed: int
) -> NDArray[np.str_]:
    """Return the split that `assign_roles` gives images which come unsplit: ``train``, ``test``."""
    role = np.full(len(keys), "train", dtype="<U5")
    _set_aside(dataset, keys, role, _groups(dataset, duplicates), seed, ignore)
    return role


def never_scored(
    dataset: Dataset, keys: NDArray[np.uint8], duplicates: Duplicates, seed: int
) -> NDArray[np.bool_]:
    """Tell which images, and near-duplicates, are in neither a test split nor the usual holdout.

    The same whichever folds and flags heads are compared by. Labels play a part in the holdout
    alone, and only where it would miss a class.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    groups = _groups(dataset, duplicates)
    role = np.array(dataset.splits or ["train"] * len(keys), dtype="<U5")
    if dataset.labels is not None and not (role == "test").any():
        _set_aside(dataset, keys, role, groups, seed, ignore)
    return ~np.isin(groups, groups[role == "test"])


def _set_aside(
    dataset: Dataset,
    keys: NDArray[np.uint8],
    role: NDArray[np.str_],
    groups: NDArray[np.int64],
    seed: int,
    observe: Observer,
) -> None:
    """Make ``test`` of 20 % of the images that are in no group with a val image.

    A group goes by the smallest of the user's names in it, else by its smallest key: an image that
    comes to a group may take it across, and moves no other.
    """
    assert dataset.labels is not None
    free = np.flatnonzero((role == "train") & ~np.isin(groups, groups[role == "val"]))
    _, labels = np.unique(np.array(dataset.labels)[free], return_inverse=True)
    names = None if dataset.groups is None else _names(dataset.groups, groups)[free].tolist()
    chosen = holdout(
        _first_keys(keys, groups)[free], labels, names, seed=seed, fraction=HOLDOUT_FRACTION
    )
    role[free[chosen.mask]] = "test"
    if chosen.stratified:
        observe(Notice("the holdout is stratified: chosen by hash alone it would miss a class"))


def _names(user_groups: tuple[str, ...], groups: NDArray[np.int64]) -> NDArray[np.str_]:
    names, number = np.unique(np.array(user_groups), return_inverse=True)
    return np.asarray(names[smallest(number.ravel(), groups)])


def _first_keys(keys: NDArray[np.uint8], groups: NDArray[np.int64]) -> NDArray[np.uint8]:
    first, number = in_key_order(keys)
    return keys[first[smallest(number, groups)]]


def _refuse_too_small(
    dataset: Dataset, before: NDArray[np.str_], after: NDArray[np.str_], folds: int
) -> None:
    """Say so where a class has enough images to train on but for those that are set aside.

    Raises
    ------
    UsageError
        There is such a class.
    """
    assert dataset.labels is not None
    labels = np.array(dataset.labels)
    needed = 1 if (after == "val").any() else folds
    for label in np.unique(labels):
        own = labels == label
        had, left = (int((own & (role == "train")).sum()) for role in (before, after))
        if had >= needed > left:
            raise UsageError(
                f"class {str(label)!r} of {dataset.name} has {plural(had, 'image')}, of which "
                f"{had - left} went to the holdout, so that {left} are left for {needed} folds: "
                "add images, use fewer folds (--folds), or set none aside (--no-holdout)"
            )


def _leave_out(
    dataset: Dataset, role: NDArray[np.str_], groups: NDArray[np.int64], observe: Observer
) -> None:
    """Leave out what is in a group with an image of a later split, and tell of it.

    Training goes before validation, and both before the test.
    """
    tested, validated = (_first_of(groups, role == side) for side in ("test", "val"))
    known = {"train": tested | validated, "val": tested}
    pairs = [
        (i, known[side][group])
        for i, (side, group) in enumerate(zip(role.tolist(), groups.tolist(), strict=True))
        if group in known.get(side, ())
    ]
    if pairs:
        told = ", ".join(
            f"{dataset.paths[i]} ({role[i]}, grouped with {dataset.paths[j]} of {role[j]})"
            for i, j in pairs[:_TOLD]
        )
        observe(
            Notice(
                f"left out: {plural(len(pairs), 'image')} in a group with an image of a later "
                f"split (train, val, test), such as {told}"
            )
        )
    role[[i for i, _ in pairs]] = ""


def _first_of(groups: NDArray[np.int64], mask: NDArray[np.bool_]) -> dict[int, int]:
    """Return the position of the first image of each group, among those of a mask."""
    at = np.flatnonzero(mask)
    found, first = np.unique(groups[at], return_index=True)
    return dict(zip(found.tolist(), at[first].tolist(), strict=True))


def _tell_contradictions(dataset: Dataset, duplicates: Duplicates, observe: Observer) -> None:
    """Tell of the same picture under different labels: at least one of them may be wrong."""
    same = united(duplicates.file, duplicates.pixels)
    _tell_labels(dataset, same, "the same image", observe)
    # One of each, so that what was told already is not told again.
    once = np.unique(same, return_index=True)[1]
    _tell_labels(dataset.take(once), duplicates.pictures()[once], "nearly the same image", observe)


def _tell_labels(
    dataset: Dataset, pictures: NDArray[np.int64], what: str, observe: Observer
) -> None:
    assert dataset.labels is not None
    _, number = np.unique(np.array(dataset.labels), return_inverse=True)
    torn = pictures[smallest(number, pictures) != number]
    contradicting = np.unique(torn).tolist()
    for picture in contradicting[:_TOLD]:
        here = np.flatnonzero(pictures == picture).tolist()
        # The first, and the first whose label is another.
        other = next(i for i in here if dataset.labels[i] != dataset.labels[here[0]])
        told = " and ".join(f"{dataset.paths[i]} ({dataset.labels[i]})" for i in (here[0], other))
        observe(Notice(f"{what} under different labels: {told}"))
    if len(contradicting) > _TOLD:
        more = plural(len(contradicting) - _TOLD, "more picture stands", "more pictures stand")
        observe(Notice(f"{more} under different labels ({what})"))
