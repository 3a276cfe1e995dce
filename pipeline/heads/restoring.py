"""Tensors that may come from a stranger, back to the head that gave them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.base import FittedHead, Tensors
from pipeline.heads.fitted import CosineHead, LinearHead, MlpHead, NeighboursHead
from pipeline.heads.kernel import KernelHead, VotesHead


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


def _votes(tensors: Tensors) -> FittedHead:
    seen, classes = _seen(tensors)
    pairs = len(seen) * (len(seen) - 1) // 2
    weight = _take(tensors, "weight", (None, pairs), "float32")
    return VotesHead(weight, _take(tensors, "bias", (pairs,), "float32"), seen, classes)


def _kernel(tensors: Tensors) -> FittedHead:
    seen, classes = _seen(tensors)
    pairs = len(seen) * (len(seen) - 1) // 2
    rows = _take(tensors, "rows", (None, None), "float32")
    gamma = _take(tensors, "gamma", (1,), "float32")
    if gamma[0] <= 0:
        raise ValueError(f"gamma is {gamma[0]}, and must be above 0")
    return KernelHead(
        pool=rows,
        support=np.arange(len(rows)),
        coefficients=_take(tensors, "coefficients", (len(rows), pairs), "float32"),
        intercept=_take(tensors, "intercept", (pairs,), "float32"),
        mean=_take(tensors, "mean", (rows.shape[1],), "float32"),
        inverse=_take(tensors, "inverse", (rows.shape[1],), "float32"),
        gamma=gamma[0],
        seen=seen,
        n_classes=classes,
    )


def _seen(tensors: Tensors) -> tuple[NDArray[np.int32], int]:
    """Classes that had rows, ascending, and how many classes there are."""
    seen = _take(tensors, "seen", (None,), "int32")
    classes = int(_take(tensors, "classes", (1,), "int32")[0])
    if len(seen) < 2 or seen[0] < 0 or seen[-1] >= classes or (np.diff(seen) <= 0).any():
        raise ValueError(f"the classes seen are not two or more of {classes}, ascending")
    return seen, classes


_RESTORERS: dict[str, Callable[[Tensors], FittedHead]] = {
    "linear": _linear,
    "mlp": _mlp,
    "cosine": _cosine,
    "neighbours": _neighbours,
    "votes": _votes,
    "kernel": _kernel,
}
