"""Small classifiers on cached features, fitted by libraries and carried as plain tensors."""

from pipeline.heads.base import (
    Fitted,
    FittedHead,
    HeadSpec,
    Trainer,
    fit_one,
    log_softmax,
    softmax,
)
from pipeline.heads.registry import HEADS, default_specs, trainer
from pipeline.heads.restoring import restore
from pipeline.heads.rows import FoldRows
from pipeline.heads.scoring import logits_all
from pipeline.heads.size import HeadSize, mlp_parameters, size_of, training_bytes

__all__ = [
    "HEADS",
    "Fitted",
    "FittedHead",
    "FoldRows",
    "HeadSize",
    "HeadSpec",
    "Trainer",
    "default_specs",
    "fit_one",
    "log_softmax",
    "logits_all",
    "mlp_parameters",
    "restore",
    "size_of",
    "softmax",
    "trainer",
    "training_bytes",
]
