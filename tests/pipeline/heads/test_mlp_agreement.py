"""What an MLP's fast path computes is what a plain training loop with Keras' Adam computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from pipeline.heads import mlp_kernels
from pipeline.heads.fitted import MlpHead
from pipeline.heads.member import Member, Network, train
from pipeline.heads.mlp import MlpTrainer
from pipeline.heads.mlp_compiled import CompiledNetwork
from pipeline.heads.mlp_graph import GraphNetwork
from pipeline.heads.mlp_keras import KerasNetwork
from pipeline.heads.rows import FoldRows


def rows_of(n: int = 600, d: int = 128, classes: int = 3) -> FoldRows:
    """ReLU-like features, classes out of balance and not quite to be told apart."""
    rng = np.random.default_rng(0)
    labels = rng.choice(classes, n, p=[0.6, 0.3, 0.1])
    means = 0.2 * rng.normal(size=(classes, d))[labels]
    features = np.maximum(rng.normal(size=(n, d)) + means, 0).astype(np.float32)
    return FoldRows(features, labels, classes)


ROWS = rows_of()


NETWORKS: dict[str, Callable[[Member], Network]] = {
    "compiled": lambda member: CompiledNetwork(member, mlp_kernels),
    "graph": GraphNetwork,
}


def by_tape(member: Member, epochs: int) -> tuple[list[float], MlpHead]:
    """Train as a Keras user writes it by hand: layers, losses and AdamW of Keras, and a tape."""
    import tensorflow as tf

    own, rows = member.trainer, member.rows
    layers = [
        keras.layers.Dense(units, activation="relu", kernel_regularizer=keras.regularizers.L2(1.0))
        for units in own.hidden
    ]
    layers.append(keras.layers.Dense(rows.n_classes, kernel_regularizer=keras.regularizers.L2(1.0)))
    model = keras.Sequential([keras.Input((member.start.dims,)), *layers])
    pairs = zip(member.start.weights, member.start.biases, strict=True)
    model.set_weights([array for pair in pairs for array in pair])
    adam = keras.optimizers.AdamW(own.learning_rate, weight_decay=own.weight_decay)
    entropy = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=own.label_smoothing
    )
    weights = np.ones(rows.n_classes, np.float32)
    if own.class_weight:
        found = compute_class_weight(
            own.class_weight, classes=np.arange(rows.n_classes), y=rows.labels[member.train]
        )
        weights = found.astype(np.float32)
    losses = []
    for _ in range(epochs):
        order = member.order()
        noise = [
            member.draws.random((len(order), units), np.float32)
            if own.dropout
            else np.zeros((len(order), units), np.float32)
            for units in own.hidden
        ]
        for first in range(0, len(order), own.batch_size):
            part = slice(first, first + own.batch_size)
            batch = order[part]
            target = np.eye(rows.n_classes, dtype=np.float32)[rows.labels[batch]]
            with tf.GradientTape() as tape:
                x = tf.constant(rows.standardised[batch])
                for layer, own_noise in zip(layers[:-1], noise, strict=True):
                    x = layer(x) * (own_noise[part] >= own.dropout) / np.float32(1 - own.dropout)
                loss = entropy(target, layers[-1](x), sample_weight=weights[rows.labels[batch]])
                loss += own.l2 * sum(model.losses)
            gradients = tape.gradient(loss, model.trainable_variables)
            adam.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        logits = model(rows.standardised[member.held])
        held = keras.losses.sparse_categorical_crossentropy(
            rows.labels[member.held], logits, from_logits=True
        )
        losses.append(float(np.mean(held)))
    arrays = model.get_weights()
    return losses, MlpHead(tuple(arrays[0::2]), tuple(arrays[1::2]))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"hidden": ()},
        {"hidden": (32, 16), "dropout": 0.3},
        {"weight_decay": 0.1},
        {"l2": 1e-2, "learning_rate": 3e-3},
        {"label_smoothing": 0.2},
        {"class_weight": "balanced"},
        {"hidden": (48, 24), "dropout": 0.5, "weight_decay": 0.05, "l2": 1e-3}
        | {"label_smoothing": 0.1, "class_weight": "balanced"},
    ],
    ids=lambda settings: "-".join(settings) or "plain",
)
# Rounding alone parts two trainings, faster the more steps there are: at 32 by 1e-4 after three
# epochs, at 256 by 7e-5 after six, on 2048 columns.
@pytest.mark.parametrize(("batch", "epochs", "tolerance"), [(32, 3, 1e-4), (256, 6, 7e-5)])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_member_agrees_with_a_plain_loop(
    settings: dict[str, Any], batch: int, epochs: int, tolerance: float, network: str
) -> None:
    trainer = MlpTrainer(**{"hidden": (64,), "dropout": 0.0, "batch_size": batch, **settings})
    expected, end = by_tape(Member.drawn(trainer, ROWS, 3), epochs)
    made = NETWORKS[network](Member.drawn(trainer, ROWS, 3))
    losses = [made.epoch() for _ in range(epochs)]
    assert np.abs(np.subtract(losses, expected)).max() < tolerance
    head = made.head()
    for ours, theirs in zip(head.weights + head.biases, end.weights + end.biases, strict=True):
        # Steps are as large as the learning rate; ones that agree stay far within one.
        assert np.abs(ours - theirs).max() < 0.05 * trainer.learning_rate


@pytest.mark.parametrize(
    "settings", [{"dropout": 0.0}, {"dropout": 0.0, "l2": 1e-3, "weight_decay": 0.1}]
)
def test_training_by_keras_alone_agrees_with_the_fast_ways(settings: dict[str, Any]) -> None:
    trainer = MlpTrainer(hidden=(32, 16), epochs=3, label_smoothing=0.1, **settings)
    fits = []
    for make in (KerasNetwork, *NETWORKS.values()):
        member = Member.drawn(trainer, ROWS, 5)
        fits.append(train(member, make(member)))
    first, *others = fits
    assert first is not None
    for other in others:
        assert first.iterations == other.iterations
        for name, tensor in first.head.tensors().items():
            # As above; folding the scaling in makes some weights larger by the columns' deviations.
            assert np.abs(tensor - other.head.tensors()[name]).max() < 2e-4
