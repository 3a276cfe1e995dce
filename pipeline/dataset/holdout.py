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
    counts = _counts(labels, unit_of, len(units))
    stratified = bool(((counts[chosen].sum(0) == 0) | (counts[~chosen].sum(0) == 0)).any())
    if stratified:
        ranked = np.argsort(np.array(order, np.uint64), kind="stable")
        chosen = _stratified(counts, ranked, fraction)
    return Holdout(chosen[unit_of], stratified)


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


def _counts(labels: npt.NDArray[np.integer], unit_of: Integers, units: int) -> Integers:
    """Count the images of each class in each unit: shape (units, classes)."""
    classes, label_of = np.unique(labels, return_inverse=True)
    counts = np.zeros((units, len(classes)), np.int64)
    np.add.at(counts, (unit_of, label_of), 1)
    return counts


def _stratified(counts: Integers, order: npt.NDArray[np.intp], fraction: float) -> Mask:
    chosen = np.zeros(len(counts), dtype=bool)
    left = counts.sum(0)
    targets = np.maximum(1, np.round(fraction * left)).astype(np.int64)
    for c in np.argsort(left, kind="stable"):
        candidates = [int(u) for u in order if counts[u, c] and not chosen[u]]
        for unit in candidates:
            missing = int(targets[c] - counts[chosen, c].sum())
            # Only what brings the class nearer to its share, and empties no class in training.
            if counts[unit, c] < 2 * missing and _spares(left, counts[unit]):
                chosen[unit] = True
                left = left - counts[unit]
        if not counts[chosen, c].sum():
            small = sorted(candidates, key=lambda u: int(counts[u, c]))
            last = next((u for u in small if _spares(left, counts[u])), None)
            if last is not None:
                chosen[last] = True
                left = left - counts[last]
    return chosen


def _spares(left: Integers, taken: Integers) -> bool:
    return bool(((left - taken)[taken > 0] > 0).all())
