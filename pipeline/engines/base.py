"""What every engine promises."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Output(NamedTuple):
    """One row per image that is asked of a pass through the network.

    Attributes
    ----------
    layer
        Where the network is cut: the name of a layer, or ``"top"`` for its last feature map.
    pooling
        How the map becomes a row: ``"avg"``, ``"max"``, ``"avgmax"`` or ``"flatten"``.
    """

    layer: str = "top"
    pooling: str = "avg"


class Engine(Protocol):
    """A frozen backbone that turns batches of images into features.

    One pass of the network yields all outputs.

    A feature depends on its image alone: not on the other images of the batch, its place in it, how
    full the batch is, or what went through before.
    """

    @property
    def name(self) -> str:
        """Name of the engine, with what it runs on."""

    @property
    def precision(self) -> str:
        """Precision the network computes in, as it was executed."""

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What a call returns, in that order."""

    @property
    def dims(self) -> tuple[int, ...]:
        """Length of one image's row, for each output."""

    @property
    def batch_size(self) -> int:
        """Largest number of images in one call; that many at a time are fastest."""

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        """Compute the features of some images.

        Parameters
        ----------
        images
            RGB, shape (n, h, w, 3) with the engine's own h and w, and 0 <= n <= ``batch_size``.

        Returns
        -------
        tuple of ndarray
            For each output float32 (n, its dims), owned by the caller.

        Raises
        ------
        ValueError
            If the images have another shape or dtype, or are too many.
        """


def rows_of(engine: Engine, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute the first output of any number of images, in calls that the engine can take.

    Parameters
    ----------
    engine
        The network.
    images
        As for a call of it; at least one.

    Returns
    -------
    ndarray
        float32 ``(n, dims)``.
    """
    step = engine.batch_size
    return np.concatenate([engine(images[i : i + step])[0] for i in range(0, len(images), step)])
