"""Which images are set aside: decided for each by a hash, so that no image decides for another."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_RULE = b"headstart-holdout-1"

Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Holdout:
    """Which images are set aside.

    Attributes
    ----------
    mask
        bool of shape (n,): True for an image of the holdout.
    stratified
        Whether the plain rule would have left a class empty on one side, so that the images
        were chosen class by class, and a changed image can move others across.
    """

    mask: Mask
    stratified: bool


@dataclass(frozen=True, slots=True)
class _Counts:
    """How many images of each class each unit has: a row for each pair that there is, by unit."""

    unit: Integers
    label: Integers
    images: Integers
    starts: npt.NDArray[np.intp]

    def of_unit(self, row: int) -> slice:
        """Return the rows of the unit that has this row."""
        unit = self.unit[row]
        return slice(self.starts[unit], self.starts[unit + 1])


def holdout(
    keys: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    groups: Sequence[str] | None,
    *,
    seed: int,
    fraction: float = 0.2,
) -> Holdout:
    """Choose the holdout: those whose hash of seed and group (else key) is below the fraction.

    Adding, removing, renaming or relabelling images moves no other image across. Groups stay
    whole, and so do images of the same bytes where there are no groups. Where the rule would
    leave a class without an image on either side, the holdout is filled class by class instead,
    rarest first, in the order of the hashes, to the fraction of each class as near as whole
    groups allow; a class that lies in one group alone stays in training.

    Parameters
    ----------
    keys
        uint8 of shape (n, 32): SHA-256 of each image's bytes.
    labels
        Integers of shape (n,): class of each.
    groups
        Group of each, or None.
    seed
        Another seed, another holdout.
    fraction
        Share of the images to set aside, between 0 and 1.
    """
    members = [k.tobytes() for k in keys] if groups is None else [_encoded(g) for g in groups]
    units, unit_of = _numbered(members)
    order = [_hash(unit, seed, grouped=groups is not None) for unit in units]
    chosen = np.array([h < fraction * 2**64 for h in order], dtype=bool)
    classes, label_of = np.unique(labels, return_inverse=True)
    mask = chosen[unit_of]
    sides = [np.bincount(label_of[side], minlength=len(classes)) for side in (mask, ~mask)]
    stratified = not np.all(sides)
    if stratified:
        ranked = np.argsort(np.array(order, np.uint64), kind="stable")
        mask = _stratified(_count(unit_of, label_of), ranked, fraction)[unit_of]
    return Holdout(mask, stratified)


def _encoded(group: str) -> bytes:
    return group.encode("utf-8", "surrogateescape")


def _numbered(members: list[bytes]) -> tuple[list[bytes], Integers]:
    """Return the distinct members, sorted, and the number of each image's own."""
    units = sorted(set(members))
    numbers = {unit: i for i, unit in enumerate(units)}
    return units, np.array([numbers[m] for m in members], np.int64)


def _hash(unit: bytes, seed: int, *, grouped: bool) -> int:
    text = b"%s %d %s " % (_RULE, seed, b"group" if grouped else b"key")
    return int.from_bytes(hashlib.sha256(text + unit).digest()[:8])


def _count(unit_of: Integers, label_of: npt.NDArray[np.integer]) -> _Counts:
    classes = int(label_of.max()) + 1
    pairs, images = np.unique(unit_of * classes + label_of, return_counts=True)
    unit, label = np.divmod(pairs, classes)
    starts = np.searchsorted(unit, np.arange(int(unit_of.max()) + 2))
    return _Counts(unit, label, images, starts)


def _stratified(counts: _Counts, order: npt.NDArray[np.intp], fraction: float) -> Mask:
    units = len(order)
    chosen = np.zeros(units, dtype=bool)
    rank = np.empty(units, np.int64)
    rank[order] = np.arange(units)
    left = np.bincount(counts.label, counts.images).astype(np.int64)
    held = np.zeros_like(left)
    targets = np.maximum(1, np.round(fraction * left)).astype(np.int64)
    rows = np.lexsort((rank[counts.unit], counts.label))
    edges = np.searchsorted(counts.label[rows], np.arange(len(left) + 1))

    def take(row: int) -> bool:
        """Set a unit aside unless that would empty a class in training."""
        own = counts.of_unit(row)
        label, images = counts.label[own], counts.images[own]
        if (left[label] <= images).any():
            return False
        left[label] -= images
        held[label] += images
        chosen[counts.unit[row]] = True
        return True

    for c in np.argsort(left, kind="stable"):
        candidates = rows[edges[c] : edges[c + 1]]
        candidates = candidates[~chosen[counts.unit[candidates]]]
        for row in candidates:
            if held[c] >= targets[c]:
                break
            # Only what brings the class nearer to its share.
            if counts.images[row] < 2 * (targets[c] - held[c]):
                take(row)
        if not held[c]:
            small = candidates[np.argsort(counts.images[candidates], kind="stable")]
            any(take(row) for row in small)
    return chosen
