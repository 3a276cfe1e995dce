"""Backbones: facts, weights, preprocessing, and the networks themselves; Keras on use only."""

from pipeline.backbones.registry import BACKBONES, Backbone, backbone
from pipeline.backbones.weights import Weights, resolve_weights

__all__ = ["BACKBONES", "Backbone", "Weights", "backbone", "resolve_weights"]
