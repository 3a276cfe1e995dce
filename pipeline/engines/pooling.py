"""From the last feature map to a row of features, in ``keras.ops``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from pipeline.backbones.registry import Backbone
from pipeline.errors import UsageError

Tensor: TypeAlias = Any


def _avg(maps: Tensor) -> Tensor:
    from keras import ops

    return ops.mean(maps, axis=(1, 2))


def _max(maps: Tensor) -> Tensor:
    from keras import ops

    return ops.max(maps, axis=(1, 2))


def _avgmax(maps: Tensor) -> Tensor:
    from keras import ops

    return ops.concatenate([_avg(maps), _max(maps)], axis=-1)


def _flatten(maps: Tensor) -> Tensor:
    from keras import ops

    return ops.reshape(maps, (maps.shape[0], -1))


POOLINGS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"avg": _avg, "max": _max, "avgmax": _avgmax, "flatten": _flatten}
)


def check_pooling(pooling: str) -> None:
    """Raise UsageError if there is no such pooling."""
    if pooling not in POOLINGS:
        raise UsageError(f"no pooling {pooling!r}: there are {', '.join(POOLINGS)}")


def pool(pooling: str, maps: Tensor) -> Tensor:
    """Turn maps (n, h, w, c) into rows: (n, c), for avgmax (n, 2c), for flatten (n, h*w*c)."""
    return POOLINGS[pooling](maps)


def dims_of(backbone: Backbone, pooling: str) -> int | None:
    """Length of a row; None where the network must be built to know it (flatten).

    Raises
    ------
    UsageError
        If there is no such pooling.
    """
    check_pooling(pooling)
    if pooling == "flatten":
        return None
    return backbone.dims * (2 if pooling == "avgmax" else 1)
