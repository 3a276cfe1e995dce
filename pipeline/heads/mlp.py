"""Keras MLP heads with dropout, and early stopping that restores the best weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.quiet import import_keras
from pipeline.heads.base import Fitted, Labels, log_softmax
from pipeline.heads.fitted import MlpHead
from pipeline.heads.rows import FoldRows
from pipeline.heads.scaling import Scaling
from pipeline.heads.size import HeadSize, mlp_parameters
from pipeline.heads.stopping import EarlyStopping, stopping_rows

if TYPE_CHECKING:
    import keras


@dataclass
class MlpTrainer:
    """Dense layers of ``hidden`` units with ReLU and dropout, cross-entropy, Adam.

    Every epoch goes through the rows in an order of its own, drawn from the fit's seed: Keras'
    own shuffling repeats one permutation in every epoch once a global seed is set. A part of the
    rows given, stratified and never dividing a group, is kept from training; its loss ends the
    training, and the weights that had the best one are kept.

    The compiled network stays in the trainer, so that fits of the same shape trace once.

    Attributes
    ----------
    hidden
        Units of each hidden layer, from the input on.
    dropout
        Rate after each hidden layer.
    learning_rate, batch_size
        Of Adam.
    epochs, patience
        At most so many epochs, and so many without a better loss end it.
    stopping_fraction
        Share of the rows kept for early stopping.
    """

    hidden: Sequence[int] = (256,)
    dropout: float = 0.5
    learning_rate: float = 1e-3
    batch_size: int = 32
    epochs: int = 20
    patience: int = 5
    stopping_fraction: float = 0.125
    probabilistic: bool = True
    _net: _Net | None = field(default=None, repr=False, compare=False)

    def head_size(self, rows: int, dims: int, n_classes: int) -> HeadSize:
        """Count weights and biases."""
        return HeadSize(mlp_parameters(dims, self.hidden, n_classes))

    @classmethod
    def fit_all(
        cls, trainers: Sequence[Self], rows: FoldRows, seeds: Sequence[int]
    ) -> Iterator[Fitted]:
        """Fit one after the other; see :class:`pipeline.heads.base.Trainer`."""
        for one, seed in zip(trainers, seeds, strict=True):
            yield one._fit(rows, seed)

    def _fit(self, fold: FoldRows, seed: int) -> Fitted:
        labels = fold.labels
        rng = np.random.default_rng(seed)
        held = stopping_rows(labels, fold.groups, self.stopping_fraction, rng)
        scaled = fold.standardised
        rows, targets = scaled[~held], labels[~held].astype(np.int32)
        net = self._network(rows.shape[1], fold.n_classes)
        net.reset(rng)
        stopping = EarlyStopping(self.patience)
        for _ in range(self.epochs):
            order = rng.permutation(len(rows))
            net.epoch(rows[order], targets[order], self.batch_size)
            head = net.head()
            if stopping.ends(head, _loss(head, scaled[held], labels[held])):
                break
        return Fitted(_folded(stopping.best, fold.scaling), stopping.epochs, stopping.ended)

    def _network(self, dims: int, n_classes: int) -> _Net:
        if self._net is None or self._net.shape != (dims, n_classes):
            self._net = _Net.build(dims, n_classes, self)
        return self._net


@dataclass(frozen=True)
class _Net:
    """A compiled Keras network that can be put back to the start."""

    model: keras.Model
    shape: tuple[int, int]
    optimizer_start: list[NDArray[Any]]

    @classmethod
    def build(cls, dims: int, n_classes: int, settings: MlpTrainer) -> _Net:
        keras = import_keras()
        stack: list[Any] = [keras.Input((dims,))]
        for units in settings.hidden:
            stack.append(keras.layers.Dense(units, activation="relu"))
            stack.append(keras.layers.Dropout(settings.dropout))
        model = keras.Sequential([*stack, keras.layers.Dense(n_classes)])
        optimizer = keras.optimizers.Adam(settings.learning_rate)
        optimizer.build(model.trainable_variables)
        model.compile(
            optimizer=optimizer,
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        start = [v.numpy().copy() for v in optimizer.variables]
        return cls(model, (dims, n_classes), start)

    def reset(self, rng: np.random.Generator) -> None:
        """Draw new weights as Keras' Dense does, Glorot uniform; forget the optimizer's state."""
        self.model.set_weights([_initial(w.shape, rng) for w in self.model.get_weights()])
        for variable, start in zip(
            self.model.optimizer.variables, self.optimizer_start, strict=True
        ):
            variable.assign(start)
        for layer in self.model.layers:
            if (generator := getattr(layer, "seed_generator", None)) is not None:
                state = np.array([rng.integers(2**32), 0])
                generator.state.assign(state.astype(generator.state.dtype))

    def epoch(self, rows: NDArray[np.float32], targets: NDArray[np.int32], batch: int) -> None:
        """Train once through the rows in the order given.

        Step by step: `fit` takes as long for many steps, and twenty times as long for a few.
        """
        for first in range(0, len(rows), batch):
            part = slice(first, first + batch)
            self.model.train_on_batch(rows[part], targets[part])

    def head(self) -> MlpHead:
        """Take the weights as they are now."""
        weights = self.model.get_weights()
        return MlpHead(tuple(weights[0::2]), tuple(weights[1::2]))


def _initial(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    if len(shape) == 1:
        return np.zeros(shape, dtype=np.float32)
    limit = np.sqrt(6 / sum(shape))
    return rng.uniform(-limit, limit, shape).astype(np.float32)


def _loss(head: MlpHead, rows: NDArray[np.float32], labels: Labels) -> float | None:
    """Mean cross-entropy; None where no rows were kept for early stopping."""
    if not len(rows):
        return None
    picked = log_softmax(head.logits(rows))[np.arange(len(rows)), labels]
    return float(-picked.mean())


def _folded(head: MlpHead, scaling: Scaling) -> MlpHead:
    weight, bias = scaling.fold(head.weights[0], head.biases[0])
    return MlpHead((weight, *head.weights[1:]), (bias, *head.biases[1:]))
