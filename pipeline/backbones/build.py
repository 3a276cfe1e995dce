"""A backbone as a Keras model with its weights in it, frozen. Imports Keras when called."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from pipeline.backbones import statistics
from pipeline.backbones.loading import load_weights
from pipeline.backbones.network import construct
from pipeline.backbones.random_weights import set_random_weights
from pipeline.backbones.registry import Backbone
from pipeline.backbones.weights import Weights, file_digest
from pipeline.errors import UsageError


def build(backbone: Backbone, weights: Weights, size: int, policy: str = "float32") -> Any:
    """Build a backbone for inference.

    Parameters
    ----------
    backbone
        Which network.
    weights
        As :func:`pipeline.backbones.weights.resolve_weights` gives them.
    size
        Side of the square input in pixels.
    policy
        Keras' name of the precision to compute in; the weights are the same in all of them.

    Returns
    -------
    keras.Model
        From preprocessed pixels, float32 (n, size, size, 3), to the last feature map
        (n, h, w, dims); nothing in it is trainable.

    Raises
    ------
    UsageError
        If the network cannot take that size, or the file does not hold its weights or is no longer
        the one that was hashed.
    """
    model = construct(backbone, backbone.checked_size(size), policy)
    if weights.path is None:
        set_random_weights(model, backbone, weights.seed)
    else:
        load_weights(model, backbone, weights.path)
        # The digest is part of every row's recipe: it must be that of what was loaded.
        if file_digest(weights.path) != weights.digest:
            raise UsageError(f"the weight file {weights.path} changed while it was read")
    if weights.statistics is not None:
        statistics.apply(model, weights.statistics, weights.statistics_digest)
    model.trainable = False
    return model


def cut(network: Any, layers: Sequence[str]) -> Any:
    """Make a built backbone give the maps of some of its layers in one pass.

    Parameters
    ----------
    network
        As `build` gives it.
    layers
        Names of layers whose output is a feature map; ``"top"`` is the last one.

    Returns
    -------
    keras.Model
        From the network's input to a list of maps (n, h, w, c), one a layer.

    Raises
    ------
    UsageError
        It has no such layer, or that layer's output is no map.
    """
    import keras

    return keras.Model(network.inputs, [_map_of(network, layer) for layer in layers])


def _map_of(network: Any, layer: str) -> Any:
    if layer == "top":
        return network.outputs[0]
    maps = [one for one in network.layers if len(getattr(one.output, "shape", ())) == 4]
    for one in maps:
        if one.name == layer:
            return one.output
    names = [one.name for one in maps]
    near = difflib.get_close_matches(layer, names, n=5) or names[-5:]
    raise UsageError(
        f"{network.name} has no layer {layer!r} that gives a map: try {', '.join(near)}"
    )
