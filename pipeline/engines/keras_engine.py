"""The reference engine: a backbone in Keras, on whatever backend and device Keras is set to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.build import build
from pipeline.backbones.preprocessing import preprocess
from pipeline.backbones.quiet import import_keras
from pipeline.backbones.registry import Backbone
from pipeline.backbones.weights import Weights
from pipeline.engines.pooling import check_pooling, pool
from pipeline.errors import UsageError


class KerasEngine:
    """Pixels in, pooled features out; see :class:`pipeline.engines.base.Engine`.

    Preprocessing, network and pooling are one graph, compiled once for one batch shape; a batch
    that is not full is filled up with black images, so that no feature depends on how full it was.

    Parameters
    ----------
    backbone, weights
        The network and its weights.
    size
        Side of the square input in pixels.
    pooling
        How the last feature map becomes a row: ``"avg"``, ``"max"``, ``"avgmax"`` or ``"flatten"``.
    precision
        ``"float32"``.
    batch_size
        Images that go through the network at once.

    Raises
    ------
    UsageError
        A size that the network cannot take, no such pooling or precision, a batch size below 1,
        or a weight file that does not fit.
    """

    def __init__(
        self,
        backbone: Backbone,
        weights: Weights,
        *,
        size: int,
        pooling: str = "avg",
        precision: str = "float32",
        batch_size: int = 32,
    ) -> None:
        check_pooling(pooling)
        if precision != "float32":
            raise UsageError(f"the Keras engine computes in float32, not in {precision!r}")
        if batch_size < 1:
            raise UsageError(f"the batch size must be at least 1, not {batch_size}")
        size = backbone.checked_size(size)
        keras = import_keras()
        self.name = f"keras-{keras.backend.backend()}"
        self.precision = precision
        self.batch_size = batch_size
        self.network = build(backbone, weights, size)
        self._shape = (size, size, 3)
        pixels = keras.Input(batch_shape=(batch_size, *self._shape), dtype="uint8")
        maps = self.network(preprocess(backbone.preprocessing, pixels), training=False)
        self._model = keras.Model(pixels, pool(pooling, maps))
        self._model.trainable = False
        # TensorFlow's own kernels are faster on a CPU than what XLA makes of these networks.
        jit = False if keras.backend.backend() == "tensorflow" else "auto"
        self._model.compile(jit_compile=jit)
        self.dims = int(self._model.output_shape[-1])

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of at most ``batch_size`` images, uint8 (n, size, size, 3)."""
        count = len(images)
        if images.dtype != np.uint8 or images.shape[1:] != self._shape or count > self.batch_size:
            raise ValueError(
                f"expected at most {self.batch_size} uint8 images of shape {self._shape}, "
                f"got {images.dtype} {images.shape}"
            )
        if count < self.batch_size:
            full = np.zeros((self.batch_size, *self._shape), np.uint8)
            full[:count] = images
            images = full
        features: Any = self._model.predict_on_batch(images)
        return np.array(features[:count], dtype=np.float32)
