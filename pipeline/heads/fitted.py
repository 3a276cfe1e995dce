"""Fitted heads of directions, layers and kept rows: tensors and the arithmetic to predict by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.base import UNSEEN, Features, Tensors, check_rows

CELLS = 1 << 23
"""Cosines computed at once, of some queries with all kept rows: bounds a prediction's memory."""


@dataclass(frozen=True)
class LinearHead:
    """Affine map, any scaling folded in: ``weight`` (d, c) and ``bias`` (c,), float32."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    kind: str = "linear"

    @property
    def dims(self) -> int:
        """Length of a feature row."""
        return int(self.weight.shape[0])

    @property
    def n_classes(self) -> int:
        """Columns of the logits."""
        return int(self.weight.shape[1])

    def logits(self, features: Features) -> NDArray[np.float32]:
        """Score rows: ``features @ weight + bias``."""
        return np.asarray(check_rows(features, self.dims) @ self.weight + self.bias)

    def tensors(self) -> Tensors:
        """``weight`` and ``bias``."""
        return {"weight": self.weight, "bias": self.bias}


@dataclass(frozen=True)
class MlpHead:
    """Dense layers with ReLU between them, scaling folded into the first."""

    weights: tuple[NDArray[np.float32], ...]
    biases: tuple[NDArray[np.float32], ...]
    kind: str = "mlp"

    @property
    def dims(self) -> int:
        """Length of a feature row."""
        return int(self.weights[0].shape[0])

    @property
    def n_classes(self) -> int:
        """Columns of the logits."""
        return int(self.weights[-1].shape[1])

    def logits(self, features: Features) -> NDArray[np.float32]:
        """Score rows: the layers in turn, ReLU after all but the last."""
        rows = check_rows(features, self.dims)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            rows = np.maximum(rows @ weight + bias, 0)
        return np.asarray(rows @ self.weights[-1] + self.biases[-1])

    def tensors(self) -> Tensors:
        """``dense_<i>.weight`` (in, out) and ``dense_<i>.bias`` (out,), from the input on."""
        named: Tensors = {}
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            named |= {f"dense_{i}.weight": weight, f"dense_{i}.bias": bias}
        return named


@dataclass(frozen=True)
class CosineHead:
    """One direction a class: ``prototypes`` (c, d), rows of length 1, or 0 for a class never seen.

    The logit is the cosine, that is one minus the cosine distance.
    """

    prototypes: NDArray[np.float32]
    kind: str = "cosine"

    @property
    def dims(self) -> int:
        """Length of a feature row."""
        return int(self.prototypes.shape[1])

    @property
    def n_classes(self) -> int:
        """Columns of the logits."""
        return int(self.prototypes.shape[0])

    def logits(self, features: Features) -> NDArray[np.float32]:
        """Score rows: cosine with each prototype."""
        cosines = unit_rows(check_rows(features, self.dims)) @ self.prototypes.T
        return np.where(self.prototypes.any(axis=1), cosines, np.float32(UNSEEN))

    def tensors(self) -> Tensors:
        """``prototypes``."""
        return {"prototypes": self.prototypes}


@dataclass(frozen=True)
class NeighboursHead:
    """Votes of the ``k`` rows nearest by cosine. Keeps all training rows, scaled to length 1.

    The logit is the logarithm of the share of votes, smoothed by one vote spread over all classes,
    ``log((votes + 1 / c) / (k + 1))``, so that a class without a vote has a finite one.
    """

    rows: NDArray[np.float32]
    labels: NDArray[np.int32]
    k: int
    n_classes: int
    kind: str = "neighbours"

    @property
    def dims(self) -> int:
        """Length of a feature row."""
        return int(self.rows.shape[1])

    def logits(self, features: Features) -> NDArray[np.float32]:
        """Score rows, as many at a time as ``CELLS`` allows."""
        return neighbour_logits([self], features)[0]

    def tensors(self) -> Tensors:
        """``rows``, ``labels``, and ``k`` and ``classes`` as arrays of one number."""
        return {
            "rows": self.rows,
            "labels": self.labels,
            "k": np.array([self.k], dtype=np.int32),
            "classes": np.array([self.n_classes], dtype=np.int32),
        }


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows divided by their length; a row of zeros stays one."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, np.float32(1)))


def neighbour_logits(
    heads: Sequence[NeighboursHead], features: Features
) -> list[NDArray[np.float32]]:
    """Score rows by heads that keep the same rows, from one list of the nearest of them.

    Parameters
    ----------
    heads
        Which differ in ``k`` alone.
    features
        ``(n, dims)``, any float dtype.

    Returns
    -------
    list of ndarray
        ``(n, n_classes)`` float32 for each head.
    """
    kept, classes = heads[0].rows, heads[0].n_classes
    queries = check_rows(features, heads[0].dims)
    ks = sorted({head.k for head in heads})
    votes = {k: np.empty((len(queries), classes), np.float32) for k in ks}
    step = max(1, CELLS // len(kept))
    for start in range(0, len(queries), step):
        block = slice(start, start + step)
        cosines = unit_rows(queries[block]) @ kept.T
        labels = heads[0].labels[_nearest(cosines, ks)]
        for k, counted in zip(ks, _counts(labels, ks, classes), strict=True):
            votes[k][block] = counted
    return [np.log((votes[h.k] + 1 / classes) / (h.k + 1)).astype(np.float32) for h in heads]


def _nearest(cosines: NDArray[np.float32], ks: Sequence[int]) -> NDArray[np.intp]:
    """Positions of the largest cosines of each row, by rank where that matters."""
    nearest = np.argpartition(cosines, -ks[-1], axis=1)[:, -ks[-1] :]
    if len(ks) == 1:
        return nearest
    ranks = np.argsort(-np.take_along_axis(cosines, nearest, axis=1), axis=1, kind="stable")
    return np.take_along_axis(nearest, ranks, axis=1)


def _counts(
    labels: NDArray[np.int32], ks: Sequence[int], classes: int
) -> Iterator[NDArray[np.float32]]:
    """Votes (n, classes) of the first k labels of each row, for ascending k."""
    votes, every = np.zeros((len(labels), classes), np.float32), np.arange(len(labels))
    done = 0
    for k in ks:
        for neighbour in labels[:, done:k].T:
            votes[every, neighbour] += 1
        done = k
        yield votes
