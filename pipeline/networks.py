"""From several choices of backbone, size, layer and pooling to the networks that yield them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from cache import FeatureStore
from pipeline.assemble import Assembly
from pipeline.engines.base import Engine, Output
from pipeline.events import Observer
from pipeline.lanes import Network


def grouped(assemblies: Sequence[Assembly]) -> tuple[Assembly, ...]:
    """Bring those of one network together, and drop what stands there twice.

    The first stays first.
    """
    distinct = {assembly.recipe.digest: assembly for assembly in reversed(assemblies)}
    groups: dict[str, list[Assembly]] = {}
    for assembly in reversed(distinct.values()):
        groups.setdefault(_network_of(assembly), []).append(assembly)
    return tuple(assembly for group in groups.values() for assembly in group)


def networks_of(
    assemblies: Sequence[Assembly],
    stores: Sequence[FeatureStore],
    out: Path,
    observe: Observer,
    augmented: Sequence[FeatureStore] = (),
) -> tuple[Network, ...]:
    """Make one network of all neighbours that differ in layer and pooling alone.

    Parameters
    ----------
    assemblies
        As `grouped` gives them.
    stores
        Where the rows of each are kept.
    out
        Where converted networks are kept.
    observe
        Told where building a network takes long.
    augmented
        Where the rows of augmented views of each are kept; empty where none are made.
    """
    groups: dict[str, list[int]] = {}
    for number, assembly in enumerate(assemblies):
        groups.setdefault(_network_of(assembly), []).append(number)
    networks = []
    for group in groups.values():
        own, first = [assemblies[i] for i in group], assemblies[group[0]]
        networks.append(
            Network(
                outputs=tuple(Output(a.recipe.layer, a.recipe.pooling) for a in own),
                stores=tuple(stores[i] for i in group),
                resize=first.resize,
                make_engine=partial(_engine, first, out, observe),
                batch_size=first.batch_size,
                augmented=tuple(augmented[i] for i in group) if augmented else (),
            )
        )
    return tuple(networks)


def _engine(
    assembly: Assembly, out: Path, observe: Observer, outputs: Sequence[Output], images: int
) -> Engine:
    return assembly.engine(out, outputs, images=images, observe=observe)


def _network_of(assembly: Assembly) -> str:
    """Name what a network is: the recipe, but for where it is cut and how its maps are pooled."""
    return replace(assembly.recipe, layer="top", pooling="avg").digest
