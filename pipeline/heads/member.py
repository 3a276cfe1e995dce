"""One MLP to be trained: where it starts, on which rows, and when its training ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.base import Fitted, Labels, log_softmax
from pipeline.heads.fitted import MlpHead
from pipeline.heads.rows import FoldRows
from pipeline.heads.scaling import Scaling
from pipeline.heads.stopping import EarlyStopping, stopping_rows

if TYPE_CHECKING:
    from pipeline.heads.mlp import MlpTrainer


@dataclass(frozen=True)
class Member:
    """One fit before its first epoch; all of it follows from the trainer, the rows and the seed.

    Attributes
    ----------
    trainer
        The settings.
    rows
        What it is fitted on, shared with the other members.
    train, held
        ``(n,)`` and ``(m,)`` int32 positions of rows: to train on, and kept for early stopping.
    class_weights
        ``(c,)`` float32: what the loss of a row of each class is multiplied by.
    start
        Weights and biases at the start, on standardised rows.
    draws
        Source of the epochs' orders and of dropout.
    """

    trainer: MlpTrainer
    rows: FoldRows
    train: NDArray[np.int32]
    held: NDArray[np.int32]
    class_weights: NDArray[np.float32]
    start: MlpHead
    draws: np.random.Generator

    @classmethod
    def drawn(cls, trainer: MlpTrainer, rows: FoldRows, seed: int) -> Member:
        """Choose the rows for early stopping, and draw the weights."""
        draws = np.random.default_rng(seed)
        held = np.zeros(len(rows.labels), bool)
        if trainer.patience is not None:
            held = stopping_rows(rows.labels, rows.groups, trainer.stopping_fraction, draws)
        train = np.flatnonzero(~held).astype(np.int32)
        if rows.plain is not None:
            held &= rows.plain
        balanced = trainer.class_weight == "balanced"
        return cls(
            trainer=trainer,
            rows=rows,
            train=train,
            held=np.flatnonzero(held).astype(np.int32),
            class_weights=_class_weights(rows.labels[train], rows.n_classes, balanced),
            start=glorot((rows.features.shape[1], *trainer.hidden, rows.n_classes), draws),
            draws=draws,
        )

    def order(self) -> NDArray[np.int32]:
        """Positions of the training rows in the order of one more epoch."""
        return self.draws.permutation(self.train)

    def noise(self, units: int) -> NDArray[np.float32]:
        """Draw from [0, 1) what the dropout of a layer compares its rate with in one more epoch.

        Returns
        -------
        ndarray
            float32 ``(len(train), units)``; zeros without dropout.
        """
        shape = (len(self.train), units)
        if not self.trainer.dropout:
            return np.zeros(shape, np.float32)
        return self.draws.random(shape, np.float32)


class Network(Protocol):
    """The network of one member, on some library."""

    def epoch(self) -> float | None:
        """Train once through the rows.

        Returns
        -------
        float or None
            Mean cross-entropy of the rows kept for early stopping, by the weights after the epoch,
            without smoothing and class weights; None where no rows are kept.
        """

    def head(self) -> MlpHead:
        """Copy the weights as they are now, on standardised rows."""


def train(member: Member, network: Network) -> Fitted:
    """Train to the end that the settings say, or that they are told of."""
    settings = member.trainer
    stopping = EarlyStopping(settings.patience)
    for _ in range(settings.epochs):
        loss = network.epoch()
        if stopping.ends(network.head, loss) or (settings.ended and settings.ended()):
            break
    whole = settings.patience is None and stopping.epochs == settings.epochs
    head = stopping.best or network.head()
    return Fitted(_folded(head, member.rows.scaling), stopping.epochs, stopping.ended or whole)


def loss_of_held(member: Member, head: MlpHead) -> float | None:
    """Mean cross-entropy of the rows kept for early stopping; None where there are none."""
    rows, held = member.rows, member.held
    if not len(held):
        return None
    logp = log_softmax(head.logits(rows.standardised[held]))
    return float(-logp[np.arange(len(held)), rows.labels[held]].mean())


def glorot(units: Sequence[int], draws: np.random.Generator) -> MlpHead:
    """Draw weights as Keras' Dense does: uniform by Glorot and Bengio (2010), biases zero.

    Parameters
    ----------
    units
        Inputs, hidden units, classes.
    draws
        Source of the weights.
    """
    limits = [np.sqrt(6 / (a + b)) for a, b in pairwise(units)]
    weights = [
        draws.uniform(-limit, limit, shape).astype(np.float32)
        for limit, shape in zip(limits, pairwise(units), strict=True)
    ]
    return MlpHead(tuple(weights), tuple(np.zeros(u, np.float32) for u in units[1:]))


def _class_weights(labels: Labels, n_classes: int, balanced: bool) -> NDArray[np.float32]:
    """Weights by which all classes that occur count alike, 1 on average over rows; or all 1."""
    counts = np.bincount(labels, minlength=n_classes)
    if not balanced:
        return np.ones(n_classes, np.float32)
    even = len(labels) / max(1, int(np.count_nonzero(counts)))
    return np.asarray(even / np.maximum(counts, 1), np.float32)


def _folded(head: MlpHead, scaling: Scaling) -> MlpHead:
    weight, bias = scaling.fold(head.weights[0], head.biases[0])
    return MlpHead((weight, *head.weights[1:]), (bias, *head.biases[1:]))
