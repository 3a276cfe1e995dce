"""Models and people: images, backbones, heads, reports and the command line of Headstart."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.extractor import FeatureExtractor
    from pipeline.tfdata import as_dataset

__all__ = ["FeatureExtractor", "as_dataset"]

# Imported on first use: the command line must start without scikit-learn and TensorFlow.
_HOME = {
    "FeatureExtractor": "pipeline.extractor",
    "as_dataset": "pipeline.tfdata",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
