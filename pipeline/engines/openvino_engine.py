"""The engine for processors: a backbone in OpenVINO, converted once from the one in Keras."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.registry import Backbone
from pipeline.backbones.weights import Weights
from pipeline.config import usable_cores
from pipeline.engines.base import Output
from pipeline.engines.checks import check_images, check_settings
from pipeline.engines.conversion import Conversion, convert_apart, converted
from pipeline.errors import UsageError

MISSING = 'the OpenVINO engine is not installed: pip install "headstart[openvino]"'

_HINTS: Mapping[str, str] = MappingProxyType({"float32": "f32", "bfloat16": "bf16"})
# Layers, as OpenVINO's plan names them, that multiply by weights.
_PRODUCTS = frozenset({"Convolution", "FullyConnected", "MatMul"})


def installed() -> bool:
    """Whether OpenVINO is there; it is not imported."""
    try:
        version("openvino")
    except PackageNotFoundError:
        return False
    return True


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself, by what OpenVINO finds in it."""
    import openvino as ov

    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoEngine:
    """Pixels in, pooled features out; see :class:`pipeline.engines.base.Engine`.

    Each core takes one image at a time. So a batch that is not full costs no more than its images,
    no feature can depend on what else is in the batch, no core waits for another within an image,
    and memory does not grow with the batch.

    Neither Keras nor TensorFlow is imported; a conversion that is not kept yet is made by another
    process.

    Parameters
    ----------
    backbone, weights
        The network and its weights.
    size
        Side of the square input in pixels.
    outputs
        What one pass is to yield.
    precision
        ``"float32"``, or ``"bfloat16"`` on a processor that has it.
    batch_size
        Images in one call.
    folder
        Where converted networks are kept.
    convert
        Makes a conversion that is not kept yet.

    Raises
    ------
    UsageError
        OpenVINO is not installed; a size that the network cannot take, no such layer, pooling or
        precision (or not on this processor), a batch size below 1, or a weight file that does not
        fit.
    """

    def __init__(
        self,
        backbone: Backbone,
        weights: Weights,
        *,
        size: int,
        folder: Path,
        outputs: Sequence[Output] = (Output(),),
        precision: str = "float32",
        batch_size: int = 32,
        convert: Callable[[Conversion, Path], None] = convert_apart,
    ) -> None:
        check_settings(outputs, batch_size)
        if not installed():
            raise UsageError(MISSING)
        if precision not in _HINTS:
            raise UsageError(
                f"the OpenVINO engine computes in {', '.join(_HINTS)}, not in {precision!r}"
            )
        import openvino as ov

        self._size = backbone.checked_size(size)
        self.outputs = tuple(outputs)
        self.batch_size = batch_size
        self.name = "openvino-cpu"
        wanted = Conversion(backbone, weights, self._size, self.outputs)
        # Kept as an attribute: the network's constants are views of these bytes.
        self._converted = converted(wanted, folder, convert)
        core, cores = ov.Core(), usable_cores()
        model = core.read_model(self._converted.xml, ov.Tensor(self._converted.weights))
        self.compiled = core.compile_model(
            model,
            "CPU",
            {
                # Never left to OpenVINO, which takes bfloat16 where the processor has it.
                "INFERENCE_PRECISION_HINT": _HINTS[precision],
                "INFERENCE_NUM_THREADS": cores,
                "NUM_STREAMS": min(cores, batch_size),
                # Decoding shares the cores: a thread that may not move waits for its own.
                "ENABLE_CPU_PINNING": False,
            },
        )
        self.precision = executed_precision(self.compiled)
        if self.precision != precision:
            raise UsageError(f"this processor computes in {self.precision}, not in {precision}")
        self.dims = tuple(int(row.shape[-1]) for row in self.compiled.outputs)
        self._queue = ov.AsyncInferQueue(self.compiled, min(cores, batch_size))

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        """Compute the features of at most ``batch_size`` images, uint8 (n, size, size, 3)."""
        check_images(images, self._size, self.batch_size)
        images = np.ascontiguousarray(images)
        rows = tuple(np.empty((len(images), dims), np.float32) for dims in self.dims)

        def take(request: Any, position: int) -> None:
            for all_rows, output in zip(rows, request.output_tensors, strict=True):
                all_rows[position] = output.data[0]

        self._queue.set_callback(take)
        try:
            for position in range(len(images)):
                self._queue.start_async([images[position : position + 1]], position, True)
        finally:
            # Not before each request is through may its memory go, whatever was raised.
            self._queue.wait_all()
        return rows


def executed_precision(compiled: Any) -> str:
    """Precision that a compiled network's products are computed in, as its plan says.

    Parameters
    ----------
    compiled
        An ``openvino.CompiledModel``.

    Returns
    -------
    str
        ``"float32"`` where every one of them is, else the lower precision.
    """
    found = {
        node.get_rt_info()["runtimePrecision"].astype(str)
        for node in compiled.get_runtime_model().get_ops()
        if node.get_rt_info()["layerType"].astype(str) in _PRODUCTS
    }
    names = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
    lower = sorted(found - {"f32"})
    return names.get(lower[0], lower[0]) if lower else "float32"
