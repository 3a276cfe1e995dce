"""An MLP trained on one core by BLAS and compiled kernels: the fastest there is on a processor."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.fitted import MlpHead
from pipeline.heads.member import Member, loss_of_held

Arrays = list[NDArray[np.float32]]

_AT_ONCE = 1 << 17  # weights: 512 KB, half of a core's second cache where there is 1 MB


@cache
def load_kernels() -> ModuleType | None:
    """Import the kernels, which compiles them once in each installation; None without numba."""
    try:
        from pipeline.heads import mlp_kernels
    except Exception:
        # No numba, one that does not go with this NumPy, no folder to keep code in: TensorFlow does
        # the same work.
        return None
    return mlp_kernels


class CompiledNetwork:
    """A member's weights and moments as arrays, which stay in the caches of one core.

    Its products of few rows and its Adam take less time than those of `pipeline.heads.mlp_graph`:
    measured on 2 cores at 2000 x 2048 features and batches of 32, 256 units, 1.4 times its speed.

    Parameters
    ----------
    member
        Where it starts, and how it goes on.
    kernels
        `pipeline.heads.mlp_kernels`.
    """

    def __init__(self, member: Member, kernels: ModuleType) -> None:
        self._member, self._kernels = member, kernels
        self._weights: Arrays = [weight.copy() for weight in member.start.weights]
        self._biases: Arrays = [bias.copy() for bias in member.start.biases]
        own = (self._weights, self._biases)
        self._first, self._second = (
            [[np.zeros_like(a) for a in part] for part in own] for _ in "12"
        )
        self._steps = 0
        self._labels = member.rows.labels.astype(np.int64)
        smoothing, classes = member.trainer.label_smoothing, member.rows.n_classes
        self._targets = _singles(1 - smoothing * (1 - 1 / classes), smoothing / classes)

    def epoch(self) -> float | None:
        """Train once through the rows; see :class:`pipeline.heads.member.Network`."""
        member = self._member
        order = member.order()
        noise = [member.noise(units) for units in member.trainer.hidden]
        for start in range(0, len(order), member.trainer.batch_size):
            part = slice(start, start + member.trainer.batch_size)
            self._step(order[part], [each[part] for each in noise])
        return loss_of_held(member, self._now())

    def head(self) -> MlpHead:
        """Copy the weights as they are now."""
        return MlpHead(
            tuple(weight.copy() for weight in self._weights),
            tuple(bias.copy() for bias in self._biases),
        )

    def _now(self) -> MlpHead:
        return MlpHead(tuple(self._weights), tuple(self._biases))

    def _step(self, batch: NDArray[np.int32], noise: Arrays) -> None:
        """Go forward and back through the layers, each updated once the slopes have passed it."""
        member, kernels = self._member, self._kernels
        rate, scale = _singles(member.trainer.dropout, 1 / (1 - member.trainer.dropout))
        inputs = [np.take(member.rows.standardised, batch, axis=0)]
        for weight, bias, own in zip(self._weights[:-1], self._biases[:-1], noise, strict=True):
            block = inputs[-1] @ weight
            kernels.activate(block, bias, own, rate, scale)
            inputs.append(block)
        slopes = inputs[-1] @ self._weights[-1]
        kernels.cross_entropy_slopes(
            slopes, self._biases[-1], self._labels[batch], member.class_weights, *self._targets
        )
        self._steps += 1
        for layer in reversed(range(len(self._weights))):
            back = slopes @ self._weights[layer].T if layer else slopes
            self._update(layer, inputs[layer], slopes)
            if layer:
                kernels.pass_back(back, inputs[layer], scale)
            slopes = back

    def _update(self, layer: int, inputs: NDArray[np.float32], slopes: NDArray[np.float32]) -> None:
        """Take Adam's step, some rows of the weights at a time: their gradients never leave L2."""
        settings, kernels = self._member.trainer, self._kernels
        corrected = np.sqrt(1 - float(kernels.BETA_2) ** self._steps) / (
            1 - float(kernels.BETA_1) ** self._steps
        )
        rate, decay, penalty, none = _singles(
            settings.learning_rate * corrected,
            settings.learning_rate * settings.weight_decay,
            2 * settings.l2,
            0,
        )
        weights, biases = self._weights[layer], self._biases[layer]
        first, second = (
            [part[layer] for part in moments] for moments in (self._first, self._second)
        )
        at_once = max(1, _AT_ONCE // weights.shape[1])
        for start in range(0, len(weights), at_once):
            some = slice(start, start + at_once)
            arrays = (weights[some], first[0][some], second[0][some], inputs[:, some].T @ slopes)
            kernels.adam(*(array.reshape(-1) for array in arrays), rate, decay, penalty)
        kernels.adam(biases, first[1], second[1], slopes.sum(axis=0), rate, decay, none)


def _singles(*numbers: float) -> tuple[np.float32, ...]:
    return tuple(map(np.float32, numbers))
