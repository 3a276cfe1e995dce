"""What every engine promises."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Engine(Protocol):
    """A frozen backbone that turns batches of images into features.

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
    def dims(self) -> int:
        """Length of one image's features."""

    @property
    def batch_size(self) -> int:
        """Largest number of images in one call; that many at a time are fastest."""

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of some images.

        Parameters
        ----------
        images
            RGB, shape (n, h, w, 3) with the engine's own h and w, and 0 <= n <= ``batch_size``.

        Returns
        -------
        ndarray
            float32, shape (n, ``dims``), owned by the caller.

        Raises
        ------
        ValueError
            If the images have another shape or dtype, or are too many.
        """
