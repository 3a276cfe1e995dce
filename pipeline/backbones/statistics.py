"""BatchNorm statistics in a file of their own, beside the weights that all else is taken from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError

_LARGEST = 64 << 20  # bytes; the deepest network here has some 2 MB of statistics
_PARTS = ("mean", "variance")


def pack(statistics: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]) -> bytes:
    """Turn means and variances, by the names of layers, into a safetensors file's bytes."""
    from safetensors.numpy import save

    tensors = {
        f"{name}/{part}": np.ascontiguousarray(value, np.float32)
        for name, pair in statistics.items()
        for part, value in zip(_PARTS, pair, strict=True)
    }
    return bytes(save(tensors))


def apply(network: Any, path: Path, digest: str) -> None:
    """Have a built network hold the statistics of a file. Nothing in the file is run.

    Parameters
    ----------
    network
        As :func:`pipeline.backbones.build.build` makes it.
    digest
        SHA-256 (hex) that the file must have.

    Raises
    ------
    UsageError
        It cannot be read, is another file, or is not one of this network's statistics.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise UsageError(f"{path} is too large to hold BatchNorm statistics")
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"the statistics {path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise UsageError(f"the statistics {path} are damaged: remove that file and run again")
    try:
        _set(network, _loaded(data))
    except ValueError as error:
        raise UsageError(f"{path} does not hold statistics of {network.name}: {error}") from error


def _loaded(data: bytes) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(data))
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"it is no safetensors file ({error})") from error


def _set(network: Any, tensors: Mapping[str, NDArray[Any]]) -> None:
    names = {layer.name: layer for layer in network.layers if hasattr(layer, "moving_variance")}
    if tensors.keys() != {f"{name}/{part}" for name in names for part in _PARTS}:
        raise ValueError("its layers are others")
    for name, layer in names.items():
        mean, variance = (tensors[f"{name}/{part}"] for part in _PARTS)
        for value in (mean, variance):
            if value.dtype != np.float32 or value.shape != tuple(layer.moving_mean.shape):
                raise ValueError(f"{name} has {value.dtype} {value.shape}")
        if not (np.isfinite(mean).all() and np.isfinite(variance).all() and (variance >= 0).all()):
            raise ValueError(f"{name} has numbers that no statistics are")
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)
