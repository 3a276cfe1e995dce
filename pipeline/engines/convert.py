"""The process that converts a network for OpenVINO, into the folder that it is started with."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from cache.errors import CacheError
from pipeline.engines.conversion import Conversion, Converted, keep
from pipeline.engines.graph import graph
from pipeline.errors import PipelineError


def trace(conversion: Conversion) -> Any:
    """Trace the network for one image, in inference mode, with its weights as constants.

    Returns
    -------
    tf.GraphDef
        From uint8 (1, size, size, 3) to float32 rows, in the order of the outputs.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    model, _ = graph(
        conversion.backbone,
        conversion.weights,
        size=conversion.size,
        outputs=conversion.outputs,
        batch_size=1,
    )
    pixels = tf.TensorSpec((1, conversion.size, conversion.size, 3), tf.uint8, "pixels")
    traced = tf.function(lambda images: model(images, training=False), input_signature=[pixels])
    frozen = convert_variables_to_constants_v2(traced.get_concrete_function())
    return frozen.graph.as_graph_def()


def convert(conversion: Conversion) -> Converted:
    """Convert a network for OpenVINO, its weights in full precision.

    The graph is read from a file rather than by ``openvino.convert_model``, which reports its use
    to OpenVINO's makers.
    """
    import openvino as ov

    with tempfile.TemporaryDirectory() as place:
        graph_file, xml = Path(place) / "graph.pb", Path(place) / "model.xml"
        graph_file.write_bytes(trace(conversion).SerializeToString())
        ov.save_model(ov.Core().read_model(graph_file), xml, compress_to_fp16=False)
        return Converted(xml.read_bytes(), np.fromfile(xml.with_suffix(".bin"), np.uint8))


def main() -> None:
    """Convert what standard input names; a sentence on standard error where that fails."""
    conversion = Conversion.parse(sys.stdin.read())
    try:
        keep(conversion, Path(sys.argv[1]), convert(conversion))
    except (PipelineError, CacheError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
