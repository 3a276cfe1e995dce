"""What a head weighs: parameters and bytes, with and without the optimizer's state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pipeline.heads.base import FittedHead, HeadSpec

FLOAT32_BYTES = 4
ADAM_MOMENTS = 2


@dataclass(frozen=True)
class HeadSize:
    """What a head keeps: numbers in float32, and whatever else.

    Attributes
    ----------
    parameters
        Numbers that training sets (or copies, for neighbours).
    other_bytes
        Bytes of what is no such number: labels, counts.
    """

    parameters: int
    other_bytes: int = 0

    @property
    def bytes(self) -> int:
        """Bytes of all that prediction needs."""
        return self.parameters * FLOAT32_BYTES + self.other_bytes

    @property
    def training_bytes(self) -> int:
        """Bytes with Adam's two moments, as a full Keras checkpoint keeps them."""
        return self.parameters * FLOAT32_BYTES * (1 + ADAM_MOMENTS)


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


def size_of(head: FittedHead) -> HeadSize:
    """Size of a fitted head, measured on its tensors."""
    tensors = head.tensors().values()
    numbers = int(sum(t.size for t in tensors if np.issubdtype(t.dtype, np.floating)))
    return HeadSize(numbers, int(sum(t.nbytes for t in tensors)) - numbers * FLOAT32_BYTES)
