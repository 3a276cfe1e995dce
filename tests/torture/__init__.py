"""Faults injected into the feature store for real, and what they left of its promises."""
