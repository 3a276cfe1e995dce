"""One step of an MLP's training as nodes of a TensorFlow graph: forward, backward, Adam."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7
"""Of Adam, as in Keras."""


class Parameters:
    """Weights, biases and moments by their handles, and the arithmetic on them, as graph nodes.

    Parameters
    ----------
    handles
        Of the variables: weights, biases, first moments of both, second moments of both.
    units
        Inputs, hidden units, classes.
    """

    def __init__(self, handles: Sequence[Any], units: Sequence[int]) -> None:
        layers = len(units) - 1
        self.shapes = [*pairwise(units), *((u,) for u in units[1:])]
        self.layers = layers
        self.handles, self.m, self.v = (handles[2 * layers * i :][: 2 * layers] for i in range(3))

    def read(self, i: int) -> Any:
        """Value of the i-th of the weights and then biases."""
        import tensorflow as tf

        value = tf.raw_ops.ReadVariableOp(resource=self.handles[i], dtype=tf.float32)
        return tf.ensure_shape(value, self.shapes[i])

    def forward(self, rows: Any, keep: Sequence[Any] | None) -> tuple[list[Any], list[Any], Any]:
        """Return the input of each layer, the hidden layers before dropout, and the logits."""
        import tensorflow as tf

        inputs, active = [rows], []
        for i in range(self.layers - 1):
            product = tf.matmul(inputs[-1], self.read(i))
            active.append(tf.nn.relu(tf.nn.bias_add(product, self.read(self.layers + i))))
            inputs.append(active[-1] if keep is None else active[-1] * keep[i])
        product = tf.matmul(inputs[-1], self.read(self.layers - 1))
        return inputs, active, tf.nn.bias_add(product, self.read(2 * self.layers - 1))

    def backward(
        self, slope: Any, inputs: Sequence[Any], active: Sequence[Any], keep: Sequence[Any]
    ) -> list[Any]:
        """Gradients of weights, then of biases, from the slope of the loss in the logits."""
        import tensorflow as tf

        kernels, biases = [], []
        for i in reversed(range(self.layers)):
            kernels.append(tf.matmul(inputs[i], slope, transpose_a=True))
            biases.append(tf.reduce_sum(slope, axis=0))
            if i:
                back = tf.matmul(slope, self.read(i), transpose_b=True) * keep[i - 1]
                slope = tf.raw_ops.ReluGrad(gradients=back, features=active[i - 1])
        return [*reversed(kernels), *reversed(biases)]

    def adam(
        self, gradients: Sequence[Any], step: Any, numbers: dict[str, Any], penalised: bool
    ) -> None:
        """Update in place: Kingma and Ba (2015), with decay by Loshchilov and Hutter (2019)."""
        import tensorflow as tf

        ops, rate = tf.raw_ops, numbers["learning_rate"]
        beta_1_power, beta_2_power = tf.pow(BETA_1, step), tf.pow(BETA_2, step)
        for i, gradient in enumerate(gradients):
            slope = gradient
            if penalised:
                weights = self.read(i)
                slope = slope + 2 * numbers["l2"] * weights if i < self.layers else slope
                decayed = rate * numbers["weight_decay"] * weights
                with tf.control_dependencies([slope]):
                    ops.AssignSubVariableOp(resource=self.handles[i], value=decayed)
            ops.ResourceApplyAdam(
                var=self.handles[i],
                m=self.m[i],
                v=self.v[i],
                beta1_power=beta_1_power,
                beta2_power=beta_2_power,
                lr=rate,
                beta1=BETA_1,
                beta2=BETA_2,
                epsilon=EPSILON,
                grad=slope,
            )
