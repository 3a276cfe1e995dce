"""The fitted heads: four kinds of tensors and the NumPy arithmetic that predicts with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.base import UNSEEN, Features, FittedHead, Tensors, check_rows

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
        queries = check_rows(features, self.dims)
        votes = np.zeros((len(queries), self.n_classes), dtype=np.float32)
        step = max(1, CELLS // len(self.rows))
        for start in range(0, len(queries), step):
            block = slice(start, start + step)
            votes[block] = self._votes(unit_rows(queries[block]))
        return np.log((votes + 1 / self.n_classes) / (self.k + 1)).astype(np.float32)

    def _votes(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        cosines = queries @ self.rows.T
        nearest = np.argpartition(cosines, -self.k, axis=1)[:, -self.k :]
        votes = np.zeros((len(queries), self.n_classes), np.float32)
        for neighbour in self.labels[nearest].T:
            votes[np.arange(len(queries)), neighbour] += 1
        return votes

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


def restore(kind: str, tensors: Tensors) -> FittedHead:
    """Build the head that gave these tensors.

    Parameters
    ----------
    kind
        :attr:`FittedHead.kind` of the head.
    tensors
        What its :meth:`FittedHead.tensors` gave.

    Raises
    ------
    ValueError
        Where the kind is unknown, or a tensor is missing, superfluous, of another dtype or shape,
        not finite, or inconsistent with the others.
    """
    if kind not in _RESTORERS:
        raise ValueError(f"the kind of head {kind!r} is not one of {', '.join(_RESTORERS)}")
    left = dict(tensors)
    head = _RESTORERS[kind](left)
    if left:
        raise ValueError(f"a {kind} head has no tensor {sorted(left)[0]!r}")
    return head


def _take(tensors: Tensors, name: str, shape: tuple[int | None, ...], dtype: str) -> NDArray[Any]:
    """Take one tensor out of the mapping, checked; None in a shape is any length but zero."""
    if name not in tensors:
        raise ValueError(f"the tensor {name!r} is missing")
    array = tensors.pop(name)
    fits = len(array.shape) == len(shape) and all(
        have == want if want is not None else have > 0
        for have, want in zip(array.shape, shape, strict=True)
    )
    if array.dtype != np.dtype(dtype) or not fits:
        expected = tuple("any" if n is None else n for n in shape)
        raise ValueError(
            f"the tensor {name!r} is {array.dtype} {array.shape}, expected {dtype} {expected}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"the tensor {name!r} has values that are not finite")
    return array


def _linear(tensors: Tensors) -> FittedHead:
    weight = _take(tensors, "weight", (None, None), "float32")
    return LinearHead(weight, _take(tensors, "bias", (weight.shape[1],), "float32"))


def _mlp(tensors: Tensors) -> FittedHead:
    weights, biases = zip(*_layers(tensors), strict=True)
    return MlpHead(weights, biases)


def _layers(tensors: Tensors) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    inputs = None
    for i in range(max(1, len(tensors) // 2)):
        weight = _take(tensors, f"dense_{i}.weight", (inputs, None), "float32")
        inputs = weight.shape[1]
        yield weight, _take(tensors, f"dense_{i}.bias", (inputs,), "float32")


def _cosine(tensors: Tensors) -> FittedHead:
    return CosineHead(_take(tensors, "prototypes", (None, None), "float32"))


def _neighbours(tensors: Tensors) -> FittedHead:
    rows = _take(tensors, "rows", (None, None), "float32")
    labels = _take(tensors, "labels", (len(rows),), "int32")
    k = int(_take(tensors, "k", (1,), "int32")[0])
    classes = int(_take(tensors, "classes", (1,), "int32")[0])
    if not 1 <= k <= len(rows):
        raise ValueError(f"k is {k} with {len(rows)} rows kept")
    if classes < 1 or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels of the kept rows go beyond the {classes} classes")
    return NeighboursHead(rows, labels, k, classes)


_RESTORERS: dict[str, Callable[[Tensors], FittedHead]] = {
    "linear": _linear,
    "mlp": _mlp,
    "cosine": _cosine,
    "neighbours": _neighbours,
}
