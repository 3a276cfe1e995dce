"""A whole epoch of an MLP as one TensorFlow graph, traced once a shape.

Keras' own loop spends most of a small step outside of arithmetic. Here shuffling, gathering,
dropout, the steps with a fused Adam, and the loss of the rows kept for early stopping are one call,
in which a member's weights and moments stay in the processor's cache. What does not change a shape
is an argument: rates, penalties, smoothing, batch size, order, seed and fold trace nothing again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np

from pipeline.heads.fitted import MlpHead
from pipeline.heads.member import Member
from pipeline.heads.mlp_nodes import Parameters

_SCALARS = ("dropout", "learning_rate", "weight_decay", "l2", "label_smoothing", "steps_done")
_tracing = Lock()


class GraphNetwork:
    """A member's weights and moments as variables, and the graph that trains them.

    Parameters
    ----------
    member
        Where it starts, and how it goes on.
    """

    def __init__(self, member: Member) -> None:
        import tensorflow as tf

        self._member = member
        self._rows = tf.constant(member.rows.standardised)
        self._labels = tf.constant(member.rows.labels.astype(np.int32))
        start = [*member.start.weights, *member.start.biases]
        self._variables = [tf.Variable(array) for array in start]
        self._moments = [tf.Variable(tf.zeros_like(v)) for v in (*start, *start)]
        settings = member.trainer
        self._epoch = traced(
            (member.start.dims, *settings.hidden, member.start.n_classes),
            bool(settings.weight_decay or settings.l2),
        )
        self._epochs = 0

    def epoch(self) -> float | None:
        """Train once through the rows; see :class:`pipeline.heads.member.Network`."""
        member, settings = self._member, self._member.trainer
        steps = self._epochs * -(-len(member.train) // settings.batch_size)
        scalars = {name: getattr(settings, name) for name in _SCALARS[:-1]} | {"steps_done": steps}
        loss = self._epoch(
            self._rows,
            self._labels,
            member.order(),
            member.held,
            member.class_weights,
            tuple(member.noise(units) for units in settings.hidden),
            np.int32(settings.batch_size),
            {name: np.float32(value) for name, value in scalars.items()},
            tuple(v.handle for v in (*self._variables, *self._moments)),
        )
        self._epochs += 1
        return float(loss) if len(member.held) else None

    def head(self) -> MlpHead:
        """Copy the weights as they are now."""
        arrays = [variable.numpy() for variable in self._variables]
        layers = len(arrays) // 2
        return MlpHead(tuple(arrays[:layers]), tuple(arrays[layers:]))


def traced(units: tuple[int, ...], penalised: bool) -> Callable[..., Any]:
    """Return the graph of an epoch for networks of this shape, traced when first asked for.

    Parameters
    ----------
    units
        Inputs, hidden units, classes.
    penalised
        Whether the steps have weight decay and L2 in them, which take a pass each over the weights.

    Returns
    -------
    callable
        From rows, labels, order, rows held, class weights, noise for each hidden layer, batch
        size, numbers by name, and handles of weights, biases and of both moments of each, to the
        mean cross-entropy of the rows held.
    """
    with _tracing:
        return _traced(units, penalised)


@lru_cache(maxsize=64)
def _traced(units: tuple[int, ...], penalised: bool) -> Callable[..., Any]:
    import tensorflow as tf

    layers = len(units) - 1
    float32, int32 = tf.float32, tf.int32

    def epoch(
        rows: Any,
        labels: Any,
        order: Any,
        held: Any,
        class_weights: Any,
        noise: Sequence[Any],
        batch_size: Any,
        numbers: dict[str, Any],
        handles: Sequence[Any],
    ) -> Any:
        parameters = Parameters(handles, units)
        scale = 1 / (1 - numbers["dropout"])
        on = 1 - numbers["label_smoothing"] * (1 - 1 / units[-1])
        off = numbers["label_smoothing"] / units[-1]

        def step(first: Any, done: Any) -> tuple[Any, Any]:
            part = slice(first, first + batch_size)
            batch = order[part]
            keep = [tf.cast(n[part] >= numbers["dropout"], float32) * scale for n in noise]
            label = tf.gather(labels, batch)
            importance = tf.gather(class_weights, label) / tf.cast(tf.size(batch), float32)
            inputs, active, logits = parameters.forward(tf.gather(rows, batch), keep)
            target = tf.one_hot(label, units[-1], on, off)
            error = tf.raw_ops.SoftmaxCrossEntropyWithLogits(features=logits, labels=target)
            slope = error.backprop * importance[:, None]
            gradients = parameters.backward(slope, inputs, active, keep)
            # A weight that is still being read would be copied at every step.
            with tf.control_dependencies(gradients):
                parameters.adam(gradients, done + 1, numbers, penalised)
            return first + batch_size, done + 1

        tf.while_loop(
            lambda first, _: first < tf.size(order),
            step,
            (0, numbers["steps_done"]),
            parallel_iterations=1,
        )
        _, _, logits = parameters.forward(tf.gather(rows, held), None)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(labels, held), logits)
        return tf.reduce_mean(losses)

    spec = tf.TensorSpec
    signature = [
        spec((None, units[0]), float32),
        *(spec((None,), int32) for _ in range(3)),
        spec((units[-1],), float32),
        tuple(spec((None, hidden), float32) for hidden in units[1:-1]),
        spec((), int32),
        {name: spec((), float32) for name in _SCALARS},
        (spec((), tf.resource),) * (6 * layers),
    ]
    return tf.function(epoch, input_signature=signature, autograph=False).get_concrete_function()  # type: ignore[no-any-return]
