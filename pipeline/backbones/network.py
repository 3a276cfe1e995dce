"""A backbone's layers, without its weights."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from pipeline.backbones.quiet import import_keras
from pipeline.backbones.registry import Backbone

# Deviation of ImageNet's channels as EfficientNet's authors used it.
_IMAGENET_STD = (0.229, 0.224, 0.225)


def construct(backbone: Backbone, size: int, policy: str = "float32") -> Any:
    """Build the network up to its last feature map.

    Parameters
    ----------
    backbone
        Which network.
    size
        Side of its square input in pixels, one that it can take.
    policy
        Keras' name of the precision to compute in, ``"mixed_bfloat16"`` or ``"float64"`` say.

    Returns
    -------
    keras.Model
        From preprocessed pixels, float32 (n, size, size, 3), to its last feature map
        (n, h, w, dims); channels last and of that precision whatever Keras is set to; weights as
        Keras initialises them.
    """
    import_keras()
    builder = _builder(backbone)
    with _standard_settings(policy):
        if not backbone.weights_file:
            return builder((size, size, 3))
        model = builder(weights=None, include_top=False, input_shape=(size, size, 3))
        return _as_for_imagenet(model)


def construct_classifier(backbone: Backbone) -> Any:
    """Build one of Keras' networks with its ImageNet classifier, at its default size."""
    import_keras()
    with _standard_settings():
        return _builder(backbone)(weights=None)


def _builder(backbone: Backbone) -> Any:
    module, function = backbone.builder.rsplit(".", 1)
    return getattr(importlib.import_module(module), function)


@contextlib.contextmanager
def _standard_settings(policy: str = "float32") -> Iterator[None]:
    """Channels last and this precision, whatever Keras is set to."""
    from keras import config

    before = config.image_data_format(), config.floatx(), config.dtype_policy()
    config.set_image_data_format("channels_last")
    config.set_floatx("float32")
    config.set_dtype_policy(policy)
    try:
        yield
    finally:
        config.set_image_data_format(before[0])
        config.set_floatx(before[1])
        config.set_dtype_policy(before[2])


def _as_for_imagenet(model: Any) -> Any:
    """Put in the layer that Keras gives EfficientNet B0 to B7 for ``weights="imagenet"`` only.

    Their file holds the channels' deviation where Keras' Normalization expects the variance, and a
    Rescaling after it makes up for that. Without it the same weights give other features.
    """
    import keras

    learned = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None
    ]
    if not learned:
        return model

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        out = layer(*args, **kwargs)
        if isinstance(layer, keras.layers.Normalization):
            scales = [std**-0.5 for std in _IMAGENET_STD]
            out = keras.layers.Rescaling(scales, name="imagenet_rescaling")(out)
        return out

    return keras.models.clone_model(model, call_function=call)
