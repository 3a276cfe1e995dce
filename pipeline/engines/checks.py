"""What engines refuse, in the same words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.engines.base import Output
from pipeline.engines.pooling import check_pooling
from pipeline.errors import UsageError


def check_settings(outputs: Sequence[Output], batch_size: int) -> None:
    """Raise UsageError for a pooling that there is not, or for a batch size below 1."""
    for output in outputs:
        check_pooling(output.pooling)
    if batch_size < 1:
        raise UsageError(f"the batch size must be at least 1, not {batch_size}")


def check_images(images: NDArray[np.uint8], size: int, batch_size: int) -> None:
    """Raise ValueError unless these are uint8 (n, size, size, 3) with n <= batch_size."""
    shape = (size, size, 3)
    if images.dtype != np.uint8 or images.shape[1:] != shape or len(images) > batch_size:
        raise ValueError(
            f"expected at most {batch_size} uint8 images of shape {shape}, "
            f"got {images.dtype} {images.shape}"
        )
