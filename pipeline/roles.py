"""What each image of a data set is for: training, validation, the last test; or left out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset import Dataset, holdout, require_labels
from pipeline.events import Notice, Observer
from pipeline.images.hashing import distinct

HOLDOUT_FRACTION = 0.2


@dataclass(frozen=True, slots=True)
class Roles:
    """The use of each image.

    Attributes
    ----------
    role
        ``(n,)`` of ``"train"``, ``"val"``, ``"test"``; empty for an image that is left out since it
        is equal to, or grouped with, one that it would be scored on.
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
    """Decide the use of each image, so that no image is scored by a head that saw it.

    A split of the user's is kept. Without a ``test`` split, the design's rule sets 20 % aside if
    `set_aside`.

    Parameters
    ----------
    dataset, keys
        The images with their labels, and uint8 ``(n, 32)``, their keys.

    Raises
    ------
    UsageError
        A class is left with fewer training images than `folds`.
    """
    role = np.array(dataset.splits or ["train"] * len(keys), dtype="<U5")
    groups = group_numbers(dataset, keys)
    _tell_contradictions(dataset, keys, observe)
    if set_aside and not (role == "test").any():
        _, labels = np.unique(np.array(dataset.labels), return_inverse=True)
        chosen = holdout(keys, labels, dataset.groups, seed=seed, fraction=HOLDOUT_FRACTION)
        role[chosen.mask] = "test"
        if chosen.stratified:
            observe(Notice("the holdout is stratified: chosen by hash alone it would miss a class"))
    leaking = _leaking(role, groups)
    if leaking.any():
        count = int(leaking.sum())
        observe(Notice(f"left out: {count} images equal to, or grouped with, images they score on"))
        role[leaking] = ""
    used = np.flatnonzero(role != "")
    require_labels(replace(dataset, splits=tuple(role)).take(used), folds)
    return Roles(role, groups)


def group_numbers(dataset: Dataset, keys: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Assign each image to a group that no fold may divide.

    Equal files are one group, and what the user grouped; groups that share a file are one.

    Returns
    -------
    ndarray of int64, shape (n,)
    """
    _, file = distinct(keys)
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


def _leaking(role: NDArray[np.str_], groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark train images grouped with val or test images, and val images grouped with test ones."""
    tested, validated = groups[role == "test"], groups[role == "val"]
    scored = np.union1d(tested, validated)
    leaking = (role == "train") & np.isin(groups, scored)
    return np.asarray(leaking | ((role == "val") & np.isin(groups, tested)), dtype=bool)


def _tell_contradictions(dataset: Dataset, keys: NDArray[np.uint8], observe: Observer) -> None:
    """Tell of equal files under different labels: at least one of them is wrong."""
    assert dataset.labels is not None
    owners: dict[bytes, list[int]] = defaultdict(list)
    for position, key in enumerate(keys):
        owners[key.tobytes()].append(position)
    contradicting = [same for same in owners.values() if len({dataset.labels[i] for i in same}) > 1]
    for same in contradicting[:3]:
        paths = " and ".join(str(dataset.paths[i]) for i in same[:3])
        observe(Notice(f"the same image under different labels: {paths}"))
    if len(contradicting) > 3:
        observe(Notice(f"{len(contradicting) - 3} more images stand under different labels"))
