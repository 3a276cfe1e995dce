"""Weight files into a constructed network: exactly those weights, or a clear refusal.

Nothing here runs code from a file: HDF5 files and ``.keras`` archives are read for their arrays
only, torch's by a restricted unpickler.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.backbones.lite0 import load_lite0
from pipeline.backbones.network import construct_classifier
from pipeline.backbones.registry import Backbone
from pipeline.errors import UsageError

_SUFFIXES = (".h5", ".hdf5", ".keras")


def load_weights(model: Any, backbone: Backbone, path: Path) -> None:
    """Set a network's weights from a file.

    Parameters
    ----------
    model
        As :func:`pipeline.backbones.network.construct` gives it.
    backbone
        Which network it is.
    path
        For Keras' networks, what Keras writes: ``.h5``, ``.weights.h5`` or ``.keras``, with or
        without the classifier. For efficientnet-lite0, torch's old format.

    Raises
    ------
    UsageError
        If the file is no weight file, is that of another network, or is not finite.
    """
    try:
        if backbone.weights_file:
            _load_keras(model, backbone, path)
        else:
            load_lite0(model, path)
    except UsageError:
        raise
    except Exception as error:  # Keras and h5py raise nearly anything on bytes they do not expect
        reason = " ".join(str(error).split())[:300]
        raise UsageError(f"{path} does not hold weights of {backbone.name}: {reason}") from error
    if not all(np.isfinite(value).all() for value in model.get_weights()):
        raise UsageError(f"{path} holds weights that are not finite numbers")


def _load_keras(model: Any, backbone: Backbone, path: Path) -> None:
    if path.suffix not in _SUFFIXES:
        raise UsageError(
            f"{path}: Keras tells weight files by their suffix, one of {', '.join(_SUFFIXES)}"
        )
    try:
        model.load_weights(path)
    except ValueError:
        # Perhaps the file with the classifier; if not that either, the first error tells more.
        try:
            whole = construct_classifier(backbone)
            whole.load_weights(path)
            model.set_weights(whole.get_weights()[: len(model.weights)])
        except ValueError:
            whole = None
        if whole is None:
            raise
        _finalise(model)


def _finalise(model: Any) -> None:
    """Have layers that keep constants derived from their weights derive them again."""
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
