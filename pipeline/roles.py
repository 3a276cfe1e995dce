"""What each image of a data set is for: training, validation, the last test; or left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset import Dataset, holdout, require_labels
from pipeline.errors import UsageError
from pipeline.events import Notice, Observer, ignore
from pipeline.images.hashing import distinct
from pipeline.text import plural

HOLDOUT_FRACTION = 0.2


@dataclass(frozen=True, slots=True)
class Roles:
    """The use of each image.

    Attributes
    ----------
    role
        ``(n,)`` of ``"train"``, ``"val"``, ``"test"``; empty for an image that is left out, since
        its bytes are those of one that it would be scored on.
    groups
        int64 ``(n,)``: images of one number stay on one side of every fold.
    """

    role: NDArray[np.str_]
    groups: NDArray[np.int64]

    def count(self, role: str) -> int:
        """Count the images with a role; ``""`` counts those left out."""
        return int((self.role == role).sum())


def assign_roles(
    dataset: Dataset,
    keys: NDArray[np.uint8],
    *,
    folds: int,
    set_aside: bool,
    seed: int,
    observe: Observer,
) -> Roles:
    """Decide the use of each image, so that no image is scored by a head that saw its bytes.

    A split of the user's is kept. Without a ``test`` split, the design's rule sets 20 % of the
    rest aside if `set_aside`; images of the user's ``val`` split, and what is grouped with them,
    stay where they are.

    Parameters
    ----------
    dataset, keys
        The images with their labels, and uint8 ``(n, 32)``, their keys.

    Raises
    ------
    UsageError
        A class is left with fewer training images than `folds`, or no val image is left.
    """
    role = np.array(dataset.splits or ["train"] * len(keys), dtype="<U5")
    _, file = distinct(keys)
    groups = _groups(dataset, file)
    _tell_contradictions(dataset, file, observe)
    doubles = _doubles(role, file)
    if doubles.any():
        observe(
            Notice(
                f"left out: {plural(int(doubles.sum()), 'image')} whose bytes are those of an "
                "image of a later split (train, val, test)"
            )
        )
        role[doubles] = ""
    _tell_torn_groups(dataset, role, observe)
    if set_aside and not (role == "test").any():
        before = role.copy()
        _set_aside(dataset, keys, role, groups, seed, observe)
        _refuse_too_small(dataset, before, role, folds)
    if "val" in (dataset.splits or ()) and not (role == "val").any():
        raise UsageError(f"every val image of {dataset.name} equals a test image; none is left")
    used = np.flatnonzero(role != "")
    require_labels(replace(dataset, splits=tuple(role)).take(used), folds)
    return Roles(role, groups)


def _groups(dataset: Dataset, file: NDArray[np.int64]) -> NDArray[np.int64]:
    """Assign each image to a group that no fold may divide.

    Equal files are one group, and what the user grouped; groups that share a file are one.

    Parameters
    ----------
    file
        int64 ``(n,)``: equal numbers for equal files.
    """
    if dataset.groups is None:
        return file
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, group = np.unique(np.array(dataset.groups), return_inverse=True)
    first_group = int(file.max()) + 1
    nodes = first_group + int(group.max()) + 1
    ends = (file, first_group + group.ravel())
    edges = coo_array((np.ones(len(file), np.int8), ends), shape=(nodes, nodes))
    component: NDArray[np.int32] = connected_components(edges, directed=False)[1]
    return component[file].astype(np.int64)


def holdout_split(dataset: Dataset, keys: NDArray[np.uint8], seed: int) -> NDArray[np.str_]:
    """Return the split that `assign_roles` gives images which come unsplit: ``train``, ``test``."""
    role = np.full(len(keys), "train", dtype="<U5")
    _set_aside(dataset, keys, role, _groups(dataset, distinct(keys)[1]), seed, ignore)
    return role


def _set_aside(
    dataset: Dataset,
    keys: NDArray[np.uint8],
    role: NDArray[np.str_],
    groups: NDArray[np.int64],
    seed: int,
    observe: Observer,
) -> None:
    """Make ``test`` of 20 % of the images that are in no group with a val image."""
    assert dataset.labels is not None
    free = np.flatnonzero((role == "train") & ~np.isin(groups, groups[role == "val"]))
    _, labels = np.unique(np.array(dataset.labels)[free], return_inverse=True)
    names = None if dataset.groups is None else _names(dataset.groups, groups)[free].tolist()
    chosen = holdout(keys[free], labels, names, seed=seed, fraction=HOLDOUT_FRACTION)
    role[free[chosen.mask]] = "test"
    if chosen.stratified:
        observe(Notice("the holdout is stratified: chosen by hash alone it would miss a class"))


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


def _tell_torn_groups(dataset: Dataset, role: NDArray[np.str_], observe: Observer) -> None:
    """Tell of groups of the user's that the user's own split divides: a score may flatter."""
    if dataset.groups is None or dataset.splits is None:
        return
    sides = defaultdict(set)
    for group, side in zip(dataset.groups, role.tolist(), strict=True):
        sides[group].add(side)
    torn = [group for group, found in sides.items() if len(found - {""}) > 1]
    if torn:
        observe(
            Notice(
                f"{plural(len(torn), 'group')} such as {torn[0]!r} lie on more than one side of "
                "the data's own split: what is scored there may be known from training"
            )
        )


def _names(user_groups: Sequence[str], groups: NDArray[np.int64]) -> NDArray[np.str_]:
    """Name each group by the smallest of the user's names in it: the user's own, mostly."""
    names = np.array(user_groups)
    order = np.lexsort((names, groups))
    _, start, number = np.unique(groups[order], return_index=True, return_inverse=True)
    named = np.empty_like(names)
    named[order] = names[order][start][number]
    return named


def _doubles(role: NDArray[np.str_], file: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark train images equal to val or test images, and val images equal to test ones."""
    tested, validated = file[role == "test"], file[role == "val"]
    scored = np.union1d(tested, validated)
    double = (role == "train") & np.isin(file, scored)
    return np.asarray(double | ((role == "val") & np.isin(file, tested)), dtype=bool)


def _tell_contradictions(dataset: Dataset, file: NDArray[np.int64], observe: Observer) -> None:
    """Tell of equal files under different labels: at least one of them is wrong."""
    assert dataset.labels is not None
    owners: dict[int, list[int]] = defaultdict(list)
    for position, number in enumerate(file.tolist()):
        owners[number].append(position)
    contradicting = [same for same in owners.values() if len({dataset.labels[i] for i in same}) > 1]
    for same in contradicting[:3]:
        told = " and ".join(f"{dataset.paths[i]} ({dataset.labels[i]})" for i in same[:3])
        observe(Notice(f"the same image under different labels: {told}"))
    if len(contradicting) > 3:
        observe(Notice(f"{len(contradicting) - 3} more images stand under different labels"))
