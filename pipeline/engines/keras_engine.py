"""The reference engine: a backbone in Keras, on whatever backend and device Keras is set to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.quiet import import_keras
from pipeline.backbones.registry import Backbone
from pipeline.backbones.weights import Weights
from pipeline.engines.base import Output
from pipeline.engines.checks import check_images, check_settings
from pipeline.engines.devices import device_of, full_float32
from pipeline.engines.graph import graph
from pipeline.engines.sizing import fastest_batch
from pipeline.errors import UsageError

# Weights stay float32; inputs and weights are rounded before each product, which is summed in
# float32 by the kernels that hardware has for it.
_POLICIES: Mapping[str, str] = MappingProxyType(
    {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
)


class KerasEngine:
    """Pixels in, pooled features out; see :class:`pipeline.engines.base.Engine`.

    Preprocessing, network and pooling are one graph, run in one batch shape; a batch that is not
    full is filled up with black images, so that no feature depends on how full it was.

    Parameters
    ----------
    backbone, weights
        The network and its weights.
    size
        Side of the square input in pixels.
    outputs
        What one pass is to yield.
    precision
        ``"float32"``, ``"bfloat16"`` or ``"float16"``. The last two are for a GPU; a processor
        gives such features as well, mostly more slowly than those of float32.
    batch_size
        Images that go through the network at once.
    largest
        Up to how many images at once may be tried, and taken where that is faster. On a processor
        it is not tried: seconds a size, to gain next to nothing.

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
        largest: int = 0,
    ) -> None:
        check_settings(outputs, batch_size)
        if precision not in _POLICIES:
            raise UsageError(
                f"the Keras engine computes in {', '.join(_POLICIES)}, not in {precision!r}"
            )
        self._size = backbone.checked_size(size)
        keras = import_keras()
        backend = keras.backend.backend()
        full_float32(backend)
        device = device_of(backend)
        self.name = f"keras-{backend}-{device}"
        self.outputs = tuple(outputs)
        self.batch_size = batch_size
        self._flatten: Callable[[Any], list[Any]] = keras.tree.flatten
        grows = device != "cpu" and largest > batch_size
        self.model, self.network = graph(
            backbone,
            weights,
            size=self._size,
            outputs=self.outputs,
            batch_size=None if grows else batch_size,
            policy=_POLICIES[precision],
        )
        self.precision = _executed(self.network)
        # TensorFlow's own kernels are faster on a CPU than what XLA makes of these networks.
        self.model.compile(jit_compile=False if backend == "tensorflow" else "auto")
        self.dims = tuple(int(row.shape[-1]) for row in self.model.outputs)
        if grows:
            self.batch_size = fastest_batch(self._seconds, batch_size, largest)

    def traced(self) -> Any:
        """Return the graph that calls run, TensorFlow's ``ConcreteFunction``; else None.

        None as well before the first call, as nothing has been traced yet.
        """
        function = self.model.predict_function
        if function is None or not hasattr(function, "get_concrete_function"):
            return None
        images = np.zeros((self.batch_size, self._size, self._size, 3), np.uint8)
        return function.get_concrete_function([(images,)])

    def _seconds(self, count: int) -> float:
        """Time a full batch of so many images, the second one: the first is compiled for."""
        images = np.zeros((count, self._size, self._size, 3), np.uint8)
        self.model.predict_on_batch(images)
        began = time.perf_counter()
        self.model.predict_on_batch(images)
        return time.perf_counter() - began

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        """Compute the features of at most ``batch_size`` images, uint8 (n, size, size, 3)."""
        check_images(images, self._size, self.batch_size)
        count = len(images)
        if count < self.batch_size:
            full = np.zeros((self.batch_size, *images.shape[1:]), np.uint8)
            full[:count] = images
            images = full
        # Of one output alone, Keras may or may not make a list.
        rows = self._flatten(self.model.predict_on_batch(images))
        return tuple(np.array(each[:count], dtype=np.float32) for each in rows)


def _executed(network: Any) -> str:
    """Precision of the products: that of most layers which hold a kernel."""
    kernels = [layer for layer in network._flatten_layers() if hasattr(layer, "kernel_size")]
    (precision, _), *_ = Counter(str(layer.compute_dtype) for layer in kernels).most_common()
    return precision
