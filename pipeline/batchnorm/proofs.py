"""Proofs, on images that somebody has, that a network runs in inference mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.batchnorm.layers import Norm, Statistics
from pipeline.batchnorm.traced import training_forms
from pipeline.engines.agreement import TOLERANCE, deviations_of
from pipeline.engines.base import Engine
from pipeline.engines.keras_engine import KerasEngine

ROUNDING = 1e-4
"""How far a number of float32 features may move with its place in the batch, and with the size of
the batch, as a part of the largest in its row.

Kernels cut their sums into blocks by the shape of the batch, and the blocks' sums round otherwise.
Seen were 2e-7 for another place and 1e-5 for another size (efficientnet-lite0, 224 pixels), at most
3e-5 with random weights, which pass errors on more. One BatchNorm layer in training form moves
features by 1e-2 and more."""

_TOLD = 3


@dataclass(frozen=True, slots=True)
class Proof:
    """One promise, checked.

    Attributes
    ----------
    promise
        What was to be shown.
    passed
        Whether it was; None where it could not be tried here.
    told
        What was found, or why it was left out.
    measured, tolerance
        Largest deviation found, and the largest that passes; None where there is no more or less.
    """

    promise: str
    passed: bool | None
    told: str
    measured: float | None = None
    tolerance: float | None = None


def features_of(engine: Engine, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Run images in their order, full batches as far as they go: float32 (n, dims)."""
    size = engine.batch_size
    return np.concatenate([engine(images[i : i + size])[0] for i in range(0, len(images), size)])


def neighbours(engine: Engine, images: NDArray[np.uint8], features: NDArray[np.float32]) -> Proof:
    """Show that other images in the batch change no bit.

    Each image keeps its place in the batch, and every other one around it is replaced by a black or
    a white picture: no batch can have statistics that are further off.
    """
    differing = 0
    for kept in (0, 1):
        others = images.copy()
        others[1 - kept :: 2] = 0
        others[1 - kept :: 4] = 255
        now = features_of(engine, others)[kept::2]
        differing += int((now != features[kept::2]).any(axis=1).sum())
    told = "the same bits among black and white pictures as among their own kind"
    if differing:
        told = f"{differing} of {len(images)} images have other features among other images"
    return Proof("other images in the batch change no bit of a feature", not differing, told)


def order(
    engine: Engine, images: NDArray[np.uint8], features: NDArray[np.float32], seed: int
) -> Proof:
    """Show that neither order nor place changes features beyond rounding."""
    shuffled = np.random.default_rng(seed).permutation(len(images))
    now = features_of(engine, images[shuffled])
    return _within("the order of the images changes nothing", features[shuffled], now, ROUNDING)


def batch_size(engine: Engine, images: NDArray[np.uint8], features: NDArray[np.float32]) -> Proof:
    """Show that another size of the batch changes features by rounding alone.

    Parameters
    ----------
    engine
        The same network with another batch size.
    images, features
        As computed with the first batch size; as many as there are in the last three batches here
        are enough.
    """
    now = features_of(engine, images)
    promise = f"batches of {engine.batch_size} give the same features"
    return _within(promise, features, now, ROUNDING)


def agreement(engine: Engine, images: NDArray[np.uint8], features: NDArray[np.float32]) -> Proof:
    """Show that another engine, or precision, gives the features of the reference engine."""
    now = features_of(engine, images)
    promise = f"{engine.name} in {engine.precision} agrees with Keras in float32"
    return _within(promise, features, now, TOLERANCE[engine.precision])


def unmoved(before: Mapping[str, Statistics], after: Sequence[Norm]) -> Proof:
    """Show that the passes moved no statistic.

    Parameters
    ----------
    before
        What each BatchNorm layer held, by name.
    after
        The layers after all passes.
    """
    return _same("the moving statistics are the same before and after, bit for bit", before, after)


def as_loaded(loaded: Mapping[str, Statistics], used: Sequence[Norm]) -> Proof:
    """Show that the statistics used are those that the weights hold, loaded a second time."""
    return _same("the statistics are those of the weight file, bit for bit", loaded, used)


def traced(engine: KerasEngine) -> Proof:
    """Show that the graph which computed the features has no training form of BatchNorm.

    Only TensorFlow has such a graph to look at.
    """
    promise = "the graph that ran holds no BatchNorm in training form"
    graph = engine.traced()
    if graph is None:
        return Proof(promise, None, "only TensorFlow keeps a graph that can be looked at")
    found = training_forms(graph)
    if not found:
        return Proof(promise, True, f"{len(graph.graph.get_operations())} operations looked at")
    more = f" and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
    return Proof(promise, False, "; ".join(found[:_TOLD]) + more)


def _same(promise: str, expected: Mapping[str, Statistics], norms: Sequence[Norm]) -> Proof:
    moved = [norm.name for norm in norms if not norm.statistics.equal(expected[norm.name])]
    if not norms:
        return Proof(promise, None, "the network has no BatchNorm layer")
    if not moved:
        return Proof(promise, True, f"{len(norms)} BatchNorm layers compared")
    more = f" and {len(moved) - _TOLD} more" if len(moved) > _TOLD else ""
    return Proof(promise, False, f"others in {', '.join(moved[:_TOLD])}{more}")


def _within(
    promise: str, expected: NDArray[np.float32], now: NDArray[np.float32], tolerance: float
) -> Proof:
    largest = float(deviations_of(expected, now).max())
    told = f"{len(now)} images, off by {largest:.1e} of a row's largest number"
    return Proof(promise, largest <= tolerance, told, largest, tolerance)


def by_name(norms: Sequence[Norm]) -> dict[str, Statistics]:
    """Tell what each layer holds now, by the layer's name."""
    return {norm.name: norm.statistics for norm in norms}
