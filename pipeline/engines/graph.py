"""Preprocessing, network and pooling as one Keras model: what every engine runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.backbones.build import build, cut
from pipeline.backbones.preprocessing import preprocess
from pipeline.backbones.quiet import import_keras
from pipeline.backbones.registry import Backbone
from pipeline.backbones.weights import Weights
from pipeline.engines.base import Output
from pipeline.engines.pooling import pool


def graph(
    backbone: Backbone,
    weights: Weights,
    *,
    size: int,
    outputs: Sequence[Output],
    batch_size: int | None,
    policy: str = "float32",
) -> tuple[Any, Any]:
    """Build a backbone in inference mode, from pixels to rows.

    Parameters
    ----------
    backbone, weights, size, policy
        As for :func:`pipeline.backbones.build.build`.
    outputs
        What one pass is to yield.
    batch_size
        Images in one pass, where the shape is fixed; None leaves it open.

    Returns
    -------
    model : keras.Model
        From RGB pixels, uint8 (batch_size, size, size, 3), to a list of rows, one an output.
        Preprocessing is in float32 whatever the policy, and so is pooling, but for float64.
    network : keras.Model
        The part of it between preprocessing and pooling.

    Raises
    ------
    UsageError
        A size that the network cannot take, no such layer, or a weight file that does not fit.
    """
    keras = import_keras()
    network = cut(build(backbone, weights, size, policy), [output.layer for output in outputs])
    pixels = keras.Input(batch_shape=(batch_size, size, size, 3), dtype="uint8")
    inputs = preprocess(backbone.preprocessing, pixels)
    maps = keras.tree.flatten(network(inputs, training=False))
    dtype = "float64" if policy == "float64" else "float32"
    rows = [
        pool(output.pooling, keras.ops.cast(one, dtype))
        for output, one in zip(outputs, maps, strict=True)
    ]
    model = keras.Model(pixels, rows)
    model.trainable = False
    return model, network
