"""The reference engine: a backbone in Keras, on whatever backend and device Keras is set to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.build import build, cut
from pipeline.backbones.preprocessing import preprocess
from pipeline.backbones.quiet import import_keras
from pipeline.backbones.registry import Backbone
from pipeline.backbones.weights import Weights
from pipeline.engines.base import Output
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
    outputs
        What one pass is to yield.
    precision
        ``"float32"``.
    batch_size
        Images that go through the network at once.

    Raises
    ------
    UsageError
        A size that the network cannot take, no such layer, pooling or precision, a batch size
        below 1, or a weight file that does not fit.
    """

    def __init__(
        self,
        backbone: Backbone,
        weights: Weights,
        *,
        size: int,
        outputs: Sequence[Output] = (Output(),),
        precision: str = "float32",
        batch_size: int = 32,
    ) -> None:
        for output in outputs:
            check_pooling(output.pooling)
        if precision != "float32":
            raise UsageError(f"the Keras engine computes in float32, not in {precision!r}")
        if batch_size < 1:
            raise UsageError(f"the batch size must be at least 1, not {batch_size}")
        size = backbone.checked_size(size)
        keras = import_keras()
        self.name = f"keras-{keras.backend.backend()}"
        self.precision = precision
        self.outputs = tuple(outputs)
        self.batch_size = batch_size
        layers = [output.layer for output in outputs]
        self.network = cut(build(backbone, weights, size), layers)
        self._shape = (size, size, 3)
        self._flatten: Callable[[Any], list[Any]] = keras.tree.flatten
        pixels = keras.Input(batch_shape=(batch_size, *self._shape), dtype="uint8")
        inputs = preprocess(backbone.preprocessing, pixels)
        maps = keras.tree.flatten(self.network(inputs, training=False))
        rows = [pool(o.pooling, m) for o, m in zip(outputs, maps, strict=True)]
        self._model = keras.Model(pixels, rows)
        self._model.trainable = False
        # TensorFlow's own kernels are faster on a CPU than what XLA makes of these networks.
        jit = False if keras.backend.backend() == "tensorflow" else "auto"
        self._model.compile(jit_compile=jit)
        self.dims = tuple(int(row.shape[-1]) for row in rows)

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
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
        # Of one output alone, Keras may or may not make a list.
        rows = self._flatten(self._model.predict_on_batch(images))
        return tuple(np.array(each[:count], dtype=np.float32) for each in rows)
