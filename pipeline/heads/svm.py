"""Linear support vector machine by its primal problem."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from pipeline.heads.base import Fitted
from pipeline.heads.linear import class_weights, fit_together, indicators, linear_size
from pipeline.heads.losses import squared_hinge
from pipeline.heads.path import Problems, path
from pipeline.heads.ranges import check_settings
from pipeline.heads.rows import FoldRows
from pipeline.heads.size import HeadSize


@dataclass(frozen=True)
class SvmTrainer:
    """Linear support vector machine, squared hinge, one against the rest.

    The problem of scikit-learn's ``LinearSVC``, bias penalised as there. It is smooth and
    convex, so that all C and classes in a batch take a fraction of their time one by one.

    Attributes
    ----------
    C
        Inverse strength of the penalty, above 0.
    tol
        Largest entry of the gradient of the mean loss. Strong penalties make gradients small.
    class_weight
        None, or ``"balanced"``: as ``LinearSVC`` has it, where the rest of a class weighs 1.
    """

    C: float
    tol: float = 1e-5
    class_weight: str | None = None
    probabilistic: bool = False

    def __post_init__(self) -> None:
        check_settings(self)

    def head_size(self, rows: int, dims: int, n_classes: int) -> HeadSize:
        """Count weight and bias."""
        return linear_size(dims, n_classes)

    @classmethod
    def fit_all(
        cls, trainers: Sequence[Self], rows: FoldRows, seeds: Sequence[int]
    ) -> Iterator[Fitted]:
        """Fit all C at once; see :class:`pipeline.heads.base.Trainer`."""
        return fit_together(
            trainers,
            rows,
            lambda one: (one.class_weight, one.tol),
            lambda own: path(rows, _problems(own[0], rows), [one.C for one in own], own[0].tol),
        )


def _problems(trainer: SvmTrainer, rows: FoldRows) -> Problems:
    indicated = indicators(rows)
    each = class_weights(indicated, trainer.class_weight)
    if len(indicated) == 2:
        weights, targets = (each @ indicated)[None], indicated[1:]
    else:
        weights, targets = 1 + (each[:, None] - 1) * indicated, indicated
    return Problems(squared_hinge, 2.0, 2 * targets[:, None] - 1, weights, bias_penalty=1.0)
