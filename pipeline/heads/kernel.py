"""Fitted support vector machines: decisions between pairs of classes, and their votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.base import UNSEEN, Features, Floats, Tensors, check_rows
from pipeline.heads.fitted import CELLS


@dataclass(frozen=True)
class VotesHead:
    """A linear decision between each two classes, any scaling folded in, and their votes.

    Attributes
    ----------
    weight, bias
        ``(d, p)`` and ``(p,)`` float32, pairs in the order of ``itertools.combinations``.
    seen
        ``(s,)`` int32: the classes that had rows, ascending.
    n_classes
        Columns of the logits.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    seen: NDArray[np.int32]
    n_classes: int
    kind: str = "votes"

    @property
    def dims(self) -> int:
        """Length of a feature row."""
        return int(self.weight.shape[0])

    def logits(self, features: Features) -> NDArray[np.float32]:
        """Score rows; see :func:`votes`."""
        decisions = check_rows(features, self.dims) @ self.weight + self.bias
        return votes(decisions, self.seen, self.n_classes)

    def tensors(self) -> Tensors:
        """``weight``, ``bias``, ``seen``, and ``classes`` as an array of one number."""
        classes = np.array([self.n_classes], dtype=np.int32)
        return {"weight": self.weight, "bias": self.bias, "seen": self.seen, "classes": classes}


@dataclass(frozen=True)
class KernelHead:
    """Decisions by the Gaussian kernel ``exp(-gamma |x - z|^2)`` of standardised rows.

    Heads of one fit share the rows that they were fitted on; what is kept in a file is the support.

    Attributes
    ----------
    pool
        ``(n, d)`` float32, standardised.
    support
        ``(m,)`` positions in it of the support vectors.
    coefficients, intercept
        ``(m, p)`` and ``(p,)`` float32: of each pair's decision.
    mean, inverse
        ``(d,)`` float32: the standardisation, of queries too.
    gamma
        Above 0.
    seen
        ``(s,)`` int32: the classes that had rows, ascending.
    n_classes
        Columns of the logits.
    """

    pool: NDArray[np.float32]
    support: NDArray[np.integer]
    coefficients: NDArray[np.float32]
    intercept: NDArray[np.float32]
    mean: NDArray[np.float32]
    inverse: NDArray[np.float32]
    gamma: np.float32
    seen: NDArray[np.int32]
    n_classes: int
    kind: str = "kernel"

    @property
    def dims(self) -> int:
        """Length of a feature row."""
        return int(self.pool.shape[1])

    def logits(self, features: Features) -> NDArray[np.float32]:
        """Score rows, as many at a time as ``CELLS`` allows."""
        return kernel_logits([self], features)[0]

    def tensors(self) -> Tensors:
        """``rows`` (the support), the arrays by their names, and single numbers as arrays."""
        return {
            "rows": self.pool[self.support],
            "coefficients": self.coefficients,
            "intercept": self.intercept,
            "mean": self.mean,
            "inverse": self.inverse,
            "gamma": np.array([self.gamma], dtype=np.float32),
            "seen": self.seen,
            "classes": np.array([self.n_classes], dtype=np.int32),
        }


def kernel_logits(heads: Sequence[KernelHead], features: Features) -> list[NDArray[np.float32]]:
    """Score rows by heads that were fitted on the same rows, from one product with those.

    Parameters
    ----------
    heads
        Of one pool.
    features
        ``(n, dims)``, any float dtype.

    Returns
    -------
    list of ndarray
        ``(n, n_classes)`` float32 for each head.
    """
    first, every = heads[0], check_rows(features, heads[0].dims)
    used = np.unique(np.concatenate([head.support for head in heads]))
    rows = first.pool[used]
    places = [np.searchsorted(used, head.support) for head in heads]
    logits = [np.empty((len(every), head.n_classes), np.float32) for head in heads]
    step = max(1, CELLS // len(rows))
    for start in range(0, len(every), step):
        block = slice(start, start + step)
        distances = squared_distances((every[block] - first.mean) * first.inverse, rows)
        for head, at, out in zip(heads, places, logits, strict=True):
            nearness = np.exp(-head.gamma * distances[:, at])
            decisions = nearness @ head.coefficients + head.intercept
            out[block] = votes(decisions, head.seen, head.n_classes)
    return logits


def squared_distances(queries: Floats, rows: Floats) -> Floats:
    """Squared Euclidean distances, (q, m), from one product of (q, d) and (m, d)."""
    distances = queries @ rows.T
    distances *= -2
    distances += np.einsum("qd,qd->q", queries, queries)[:, None]
    distances += np.einsum("md,md->m", rows, rows)
    return np.maximum(distances, 0, out=distances)


def votes(
    decisions: NDArray[np.float32], seen: NDArray[np.int32], n_classes: int
) -> NDArray[np.float32]:
    """Turn decisions between pairs of classes into a logit for each class.

    As scikit-learn's ``decision_function_shape="ovr"``: votes, and where those are equal the sum of
    the decisions, squeezed to less than half a vote. A single decision f becomes -f/2 and f/2.

    Parameters
    ----------
    decisions
        ``(n, p)``, above 0 for the second class of a pair.
    seen
        The classes that pairs are made of.
    n_classes
        Columns; a class not seen gets :data:`pipeline.heads.base.UNSEEN`.
    """
    logits = np.full((len(decisions), n_classes), UNSEEN, dtype=np.float32)
    if len(seen) == 2:
        logits[:, seen] = decisions * np.array([-0.5, 0.5], dtype=np.float32)
        return logits
    won, confidence = np.zeros((2, len(decisions), len(seen)), dtype=np.float32)
    for decision, (i, j) in zip(decisions.T, combinations(range(len(seen)), 2), strict=True):
        won[:, i] += decision <= 0
        won[:, j] += decision > 0
        confidence[:, i] -= decision
        confidence[:, j] += decision
    logits[:, seen] = won + confidence / (3 * (np.abs(confidence) + 1))
    return logits
