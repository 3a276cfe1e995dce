"""Logistic regression, multinomial or one class against the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.base import Fitted
from pipeline.heads.linear import class_weights, fit_together, indicators, linear_size
from pipeline.heads.losses import binomial, multinomial
from pipeline.heads.path import Problems, path
from pipeline.heads.ranges import check_settings
from pipeline.heads.rows import FoldRows
from pipeline.heads.size import HeadSize


@dataclass(frozen=True)
class LogisticTrainer:
    """Logistic regression with an L2 penalty of strength ``1 / C``.

    Attributes
    ----------
    C
        Inverse strength of the penalty, above 0.
    tol
        Largest entry of the gradient of the mean loss, as scikit-learn's ``lbfgs`` has it.
    class_weight
        None, or ``"balanced"``.
    multi_class
        ``"multinomial"``, or ``"ovr"``: one logistic regression of each class against the rest,
        balanced each on its own. Two classes are one logistic regression either way.
    """

    C: float
    tol: float = 1e-4
    class_weight: str | None = None
    multi_class: str = "multinomial"

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def probabilistic(self) -> bool:
        """Whether the probabilities of all classes were fitted as such."""
        return self.multi_class == "multinomial"

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
            lambda one: (one.multi_class, one.class_weight, one.tol),
            lambda own: path(rows, _problems(own[0], rows), [one.C for one in own], own[0].tol),
        )


def _problems(trainer: LogisticTrainer, rows: FoldRows) -> Problems:
    indicated = indicators(rows)
    if len(indicated) == 2:
        weights = class_weights(indicated, trainer.class_weight) @ indicated
        return Problems(binomial, 0.25, indicated[1:, None], weights[None])
    if trainer.multi_class == "multinomial":
        weights = class_weights(indicated, trainer.class_weight) @ indicated
        return Problems(multinomial, 0.1, indicated[None], weights[None])
    rest = [_against_rest(own, trainer.class_weight) for own in indicated]
    return Problems(binomial, 0.25, indicated[:, None], np.stack(rest))


def _against_rest(own: NDArray[np.float64], class_weight: str | None) -> NDArray[np.float64]:
    both = np.stack((1 - own, own))
    return np.asarray(class_weights(both, class_weight) @ both)
