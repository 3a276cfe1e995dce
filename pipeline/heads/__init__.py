"""Small classifiers on cached features, fitted by libraries and carried as plain tensors."""

from pipeline.heads.base import (
    Fitted,
    FittedHead,
    HeadSpec,
    Trainer,
    log_softmax,
    softmax,
)
from pipeline.heads.fitted import restore
from pipeline.heads.registry import HEADS, default_specs, trainer
from pipeline.heads.size import HeadSize, mlp_parameters, size_of, training_bytes

__all__ = [
    "HEADS",
    "Fitted",
    "FittedHead",
    "HeadSize",
    "HeadSpec",
    "Trainer",
    "default_specs",
    "log_softmax",
    "mlp_parameters",
    "restore",
    "size_of",
    "softmax",
    "trainer",
    "training_bytes",
]
