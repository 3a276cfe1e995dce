"""An MLP trained by plain Keras, on whichever backend it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.quiet import import_keras
from pipeline.heads.fitted import MlpHead
from pipeline.heads.member import Member, loss_of_held

if TYPE_CHECKING:
    import keras


def as_keras(head: MlpHead, *, dropout: float = 0.0, l2: float = 0.0) -> keras.Model:
    """Turn a head into an ordinary Keras model of Dense layers, from features to logits.

    Parameters
    ----------
    head
        The weights; those of a fitted head take features as they are in the store.
    dropout
        Rate after each hidden layer; without one there are no such layers.
    l2
        Penalty on the kernels in further training.

    Returns
    -------
    keras.Model
        A Sequential model, not compiled. It saves as ``.keras``, and opens without this library.
    """
    keras = import_keras()
    stack: list[Any] = [keras.Input((head.dims,))]
    for i, weight in enumerate(head.weights):
        inner = i < len(head.weights) - 1
        stack.append(
            keras.layers.Dense(
                weight.shape[1],
                activation="relu" if inner else None,
                kernel_regularizer=keras.regularizers.L2(l2) if l2 else None,
                dtype="float32",
            )
        )
        if inner and dropout:
            stack.append(keras.layers.Dropout(dropout, dtype="float32"))
    model = keras.Sequential(stack)
    pairs = zip(head.weights, head.biases, strict=True)
    model.set_weights([array for pair in pairs for array in pair])
    return model


class KerasNetwork:
    """A member as a compiled Keras model: what the graph computes, wherever Keras runs.

    Dropout draws by Keras' generator, which is not the graph's.
    """

    def __init__(self, member: Member) -> None:
        keras = import_keras()
        settings = member.trainer
        self._member = member
        self._model = as_keras(member.start, dropout=settings.dropout, l2=settings.l2)
        for layer in self._model.layers:
            if (generator := getattr(layer, "seed_generator", None)) is not None:
                state = np.array([member.draws.integers(2**32), 0])
                generator.state.assign(state.astype(generator.state.dtype))
        steps = -(-len(member.train) // settings.batch_size)
        self._model.compile(
            optimizer=keras.optimizers.Adam(
                settings.learning_rate, weight_decay=settings.weight_decay or None
            ),
            loss=keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=settings.label_smoothing
            ),
            # On torch Keras takes one step at a time.
            steps_per_execution=1 if keras.backend.backend() == "torch" else steps,
        )

    def epoch(self) -> float | None:
        """Train once through the rows; see :class:`pipeline.heads.member.Network`."""
        member, order = self._member, self._member.order()
        labels = member.rows.labels[order]
        self._model.fit(
            member.rows.standardised[order],
            np.eye(member.rows.n_classes, dtype=np.float32)[labels],
            sample_weight=member.class_weights[labels],
            batch_size=member.trainer.batch_size,
            shuffle=False,
            verbose=0,
        )
        return loss_of_held(member, self.head())

    def head(self) -> MlpHead:
        """Copy the weights as they are now."""
        weights: list[NDArray[np.float32]] = self._model.get_weights()
        return MlpHead(tuple(weights[0::2]), tuple(weights[1::2]))
