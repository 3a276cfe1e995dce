"""BatchNorm: how it runs, how far data lie from what it has stored, and what that costs."""

from pipeline.batchnorm.layers import Norm, Statistics, norms_of
from pipeline.batchnorm.measure import LayerShift, shifts
from pipeline.batchnorm.moments import Moments, jeffreys
from pipeline.batchnorm.proofs import Proof

__all__ = [
    "LayerShift",
    "Moments",
    "Norm",
    "Proof",
    "Statistics",
    "jeffreys",
    "norms_of",
    "shifts",
]
