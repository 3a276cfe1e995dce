"""What a head weighs: parameters and bytes, with and without the optimizer's state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipeline.heads.base import FittedHead, HeadSpec

FLOAT32_BYTES = 4
ADAM_MOMENTS = 2


@dataclass(frozen=True)
class HeadSize:
    """Parameters of a network in float32, and the bytes they take.

    Attributes
    ----------
    parameters
        Numbers that training sets.
    """

    parameters: int

    @property
    def bytes(self) -> int:
        """Bytes of the weights alone: all that prediction needs."""
        return self.parameters * FLOAT32_BYTES

    @property
    def training_bytes(self) -> int:
        """Bytes with Adam's two moments, as a full Keras checkpoint keeps them."""
        return self.bytes * (1 + ADAM_MOMENTS)


def mlp_parameters(inputs: int, hidden: Sequence[int], classes: int) -> int:
    """Weights and biases of dense layers from ``inputs`` over ``hidden`` to ``classes``.

    Examples
    --------
    The head of the question that this library answers, on a flattened 10 x 10 x 2048 map:

    >>> mlp_parameters(10 * 10 * 2048, (1024, 512, 256), 2)
    210372866
    """
    return sum((a + 1) * b for a, b in pairwise((inputs, *hidden, classes)))


def training_bytes(spec: HeadSpec, parameters: int) -> int | None:
    """Bytes of a network with the state that Adam trains it by; None where Adam trains nothing."""
    return HeadSize(parameters).training_bytes if spec.head == "mlp" else None


def size_of(head: FittedHead) -> tuple[int, int]:
    """Floating-point numbers a fitted head keeps, and the bytes of all of its tensors."""
    tensors = head.tensors().values()
    numbers = sum(t.size for t in tensors if np.issubdtype(t.dtype, np.floating))
    return int(numbers), int(sum(t.nbytes for t in tensors))
