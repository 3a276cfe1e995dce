"""What the benchmark of the MLP heads measures: fits by Keras, by Headstart, and their floors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.config import usable_cores
from pipeline.heads.base import Fitted, fit_one
from pipeline.heads.member import Member
from pipeline.heads.mlp import MlpTrainer
from pipeline.heads.mlp_nodes import BETA_1, BETA_2, EPSILON
from pipeline.heads.rows import FoldRows
from pipeline.workers import in_order

HIDDEN = 256
DROPOUT = 0.5


@dataclass(frozen=True)
class Took:
    """Milliseconds a head and epoch: a fit as it comes, and one that finds all traced."""

    whole: float
    steady: float


@dataclass(frozen=True)
class Work:
    """Fits of some epochs on some rows."""

    rows: FoldRows
    batch: int
    epochs: int
    members: int

    @property
    def trainer(self) -> MlpTrainer:
        """Train all epochs, with the losses and best weights of early stopping."""
        return MlpTrainer(
            hidden=(HIDDEN,),
            dropout=DROPOUT,
            batch_size=self.batch,
            epochs=self.epochs,
            patience=self.epochs,
        )

    @property
    def member(self) -> Member:
        return Member.drawn(self.trainer, self.rows, 0)


def relu_features(n: int, d: int, classes: int, seed: int = 0) -> FoldRows:
    """Rows like pooled features: not negative, half of them zero, classes overlapping."""
    rng = np.random.default_rng(seed)
    means = 0.045 * np.random.default_rng(9).normal(size=(classes, d))
    labels = rng.permutation(np.arange(n) % classes)
    rows = np.maximum(rng.normal(size=(n, d)) + means[labels], 0)
    return FoldRows(rows.astype(np.float32), labels, classes)


def keras_model(d: int, classes: int, steps: int) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((d,)),
            keras.layers.Dense(HIDDEN, activation="relu"),
            keras.layers.Dropout(DROPOUT),
            keras.layers.Dense(classes),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, steps_per_execution=steps)
    return model


def split(work: Work) -> tuple[tuple[NDArray[Any], NDArray[Any]], ...]:
    """Rows to train on, and rows for early stopping, as the trainer divides them."""
    member, rows = work.member, work.rows
    return tuple((rows.standardised[at], rows.labels[at]) for at in (member.train, member.held))


def keras_fit(work: Work, tuned: bool) -> Took:
    """Build, compile and fit as users do; then fit once more, with all traced."""
    (x, y), held = split(work)
    steps = -(-len(x) // work.batch) if tuned else 1
    started = time.perf_counter()
    model = keras_model(x.shape[1], work.rows.n_classes, steps)
    seconds = []
    for _ in range(2):
        model.fit(x, y, batch_size=work.batch, epochs=work.epochs, validation_data=held, verbose=0)
        seconds.append(time.perf_counter() - started)
    keras.backend.clear_session()
    first, both = seconds
    return Took(1e3 * first / work.epochs, 1e3 * (both - first) / work.epochs)


def our_fits(work: Work) -> Took:
    """Fit as a sweep does, each with rows of its own; then once more."""
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        epochs = [fitted.iterations for fitted in _fitted(work, work.trainer, range(work.members))]
        assert epochs == [work.epochs] * work.members
        seconds.append(time.perf_counter() - started)
    whole, steady = (1e3 * s / work.epochs / work.members for s in seconds)
    return Took(whole, steady)


def _fitted(work: Work, trainer: MlpTrainer, seeds: Iterable[int]) -> Iterator[Fitted]:
    """Train one network for each seed, a core each."""

    def fit(seed: int, _: Event) -> Fitted:
        rows = FoldRows(work.rows.features, work.rows.labels, work.rows.n_classes)
        return fit_one(trainer, rows, seed)

    tasks = [partial(fit, int(seed)) for seed in seeds]
    return in_order(tasks, usable_cores(), len(tasks))


def products(work: Work) -> Took:
    """Multiply as the training has to, a network a core, and nothing else.

    Forward and the weights' gradient of the hidden layer; the other layer is a hundredth of it.
    """
    member = work.member
    x = tf.constant(work.rows.standardised[member.train])
    held = tf.constant(work.rows.standardised[member.held])

    @tf.function(autograph=False)
    def epoch(weights: Any, slopes: Any) -> Any:
        def step(first: Any, kept: Any) -> Any:
            # Something of each product is kept, and each depends on the step: none is left out.
            part = x[first : first + work.batch]
            out = tf.matmul(part, weights)
            slope = slopes[: tf.shape(part)[0]] + out[0, 0] * 1e-9
            gradient = tf.matmul(part, slope, transpose_a=True)
            return first + work.batch, kept + gradient[0, 0]

        rows = tf.shape(x)[0]
        _, kept = tf.while_loop(lambda i, _: i < rows, step, (0, 0.0), parallel_iterations=1)
        return kept + tf.matmul(held, weights)[0, 0]

    rng = np.random.default_rng(0)
    weights = tf.constant(rng.normal(size=(x.shape[1], HIDDEN)).astype(np.float32))
    slopes = tf.constant(rng.normal(size=(work.batch, HIDDEN)).astype(np.float32))
    return _a_core_each(lambda: epoch(weights, slopes), work)


def optimizer(work: Work) -> Took:
    """Update the hidden layer as often as the training does, a network a core, and nothing else."""
    steps = -(-len(work.member.train) // work.batch)
    shape = (work.rows.features.shape[1], HIDDEN)
    gradient = tf.constant(np.random.default_rng(0).normal(size=shape).astype(np.float32))

    @tf.function(autograph=False, input_signature=[(tf.TensorSpec((), tf.resource),) * 3])
    def epoch(handles: Any) -> Any:
        def step(i: Any) -> Any:
            var, m, v = handles
            tf.raw_ops.ResourceApplyAdam(
                var=var, m=m, v=v, beta1_power=BETA_1, beta2_power=BETA_2, lr=1e-3,
                beta1=BETA_1, beta2=BETA_2, epsilon=EPSILON, grad=gradient,
            )  # fmt: skip
            return (i + 1,)

        return tf.while_loop(lambda i: i < steps, step, (0,), parallel_iterations=1)

    def one() -> None:
        state = [tf.Variable(tf.zeros(shape)) for _ in range(3)]
        for _ in range(work.epochs):
            epoch(tuple(variable.handle for variable in state))

    return _a_core_each(one, work, epochs=1)


def _a_core_each(one: Callable[[], object], work: Work, epochs: int | None = None) -> Took:
    one()
    times = work.epochs if epochs is None else epochs
    with ThreadPoolExecutor(usable_cores()) as pool:
        started = time.perf_counter()
        list(pool.map(lambda _: [one() for _ in range(times)], range(work.members)))
        taken = 1e3 * (time.perf_counter() - started) / work.members / work.epochs
    return Took(taken, taken)


def accuracy_of_keras(work: Work, test: FoldRows) -> float:
    """Fit as users write it, with a random start and order, and score the best weights."""
    (x, y), held = split(work)
    model = keras_model(x.shape[1], work.rows.n_classes, 1)
    stopping = keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True)
    model.fit(
        x,
        y,
        batch_size=work.batch,
        epochs=20,
        validation_data=held,
        callbacks=[stopping],
        verbose=0,
    )
    logits = model.predict(work.rows.scaling.apply(test.features), verbose=0)
    keras.backend.clear_session()
    return float((logits.argmax(axis=1) == test.labels).mean())


def our_accuracies(work: Work, test: FoldRows, runs: int) -> list[float]:
    """Fit with the settings that Keras' users wrote, from random seeds."""
    seeds = np.random.SeedSequence().generate_state(runs)
    trainer = MlpTrainer(
        hidden=(HIDDEN,), dropout=DROPOUT, batch_size=work.batch, epochs=20, patience=5
    )
    return [
        float((fitted.head.logits(test.features).argmax(axis=1) == test.labels).mean())
        for fitted in _fitted(work, trainer, seeds)
    ]
