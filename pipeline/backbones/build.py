"""A backbone as a Keras model with its weights in it, frozen. Imports Keras when called."""

from __future__ import annotations

from typing import Any

from pipeline.backbones.loading import load_weights
from pipeline.backbones.network import construct
from pipeline.backbones.random_weights import set_random_weights
from pipeline.backbones.registry import Backbone
from pipeline.backbones.weights import Weights, file_digest
from pipeline.errors import UsageError


def build(backbone: Backbone, weights: Weights, size: int) -> Any:
    """Build a backbone for inference.

    Parameters
    ----------
    backbone
        Which network.
    weights
        As :func:`pipeline.backbones.weights.resolve_weights` gives them.
    size
        Side of the square input in pixels.

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
    model = construct(backbone, backbone.checked_size(size))
    if weights.path is None:
        set_random_weights(model, backbone, weights.seed)
    else:
        load_weights(model, backbone, weights.path)
        # The digest is part of every row's recipe: it must be that of what was loaded.
        if file_digest(weights.path) != weights.digest:
            raise UsageError(f"the weight file {weights.path} changed while it was read")
    model.trainable = False
    return model
