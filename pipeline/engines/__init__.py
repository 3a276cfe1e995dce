"""Engines: what runs a backbone over batches of images."""

from pipeline.engines.base import Engine
from pipeline.engines.pooling import dims_of

__all__ = ["Engine", "dims_of"]
