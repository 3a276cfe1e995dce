"""Engines: what runs a backbone over batches of images."""

from pipeline.engines.base import Engine, Output
from pipeline.engines.pooling import dims_of

__all__ = ["Engine", "Output", "dims_of"]
