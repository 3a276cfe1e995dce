"""The command ``export-h5``: a data set's features in one ordinary file for people."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from cache.export import Columns, check_suffix, export
from pipeline.config import FeaturesConfig
from pipeline.dataset import Dataset
from pipeline.dataset.duplicates import find_duplicates
from pipeline.events import Observer
from pipeline.roles import HOLDOUT_FRACTION, holdout_split
from pipeline.stage_one import Features, find_dataset, make_features, require_one

OWN_SPLIT = "the data set's own"
_NO_SPLIT: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes
    ----------
    file
        Where.
    rows, dims, nbytes
        Its size.
    names
        Columns of it.
    features
        What stage one made or found.
    """

    file: Path
    rows: int
    dims: int
    nbytes: int
    names: tuple[str, ...]
    features: Features


def export_rows(config: FeaturesConfig, file: Path, observe: Observer) -> Exported:
    """Make the features that are missing, and write all of a data set's to one file.

    Columns that a data set has nothing for (no classes, no groups) are not there. Where it comes
    unsplit and has classes, the split is ``heads``' own: ``test`` for its holdout.

    Raises
    ------
    UsageError
        As for stage one.
    CacheError
        Another suffix than ``.h5``, ``.hdf5``, ``.npz`` and ``.parquet``, a library that is
        missing, or the file cannot be written.
    """
    require_one(config, "export-h5")
    check_suffix(file)  # before hours of computing
    made = make_features(config, find_dataset(config), observe)
    columns = _columns(made, config.backbone.seed)
    nbytes = export(made.store, columns, file)
    names = ["features", "key", *(["labels", "classes"] if columns.classes else [])]
    return Exported(
        file=file,
        rows=len(made.keys),
        dims=made.store.dims or 0,
        nbytes=nbytes,
        names=(*names, *columns.texts()),
        features=made,
    )


def _columns(made: Features, seed: int) -> Columns:
    dataset = made.dataset
    labels, classes = None, None
    if dataset.labels is not None:
        found, positions = np.unique(np.array(dataset.labels), return_inverse=True)
        labels, classes = positions.astype(np.int64), tuple(map(str, found))
    split, rule = _split(dataset, made, labels, seed)
    recipe = made.assembly.recipe
    return Columns(
        keys=made.keys,
        paths=[os.fsencode(path).decode("utf-8", "backslashreplace") for path in dataset.paths],
        labels=labels,
        classes=classes,
        groups=dataset.groups,
        split=split,
        attributes={
            "recipe": recipe.canonical().decode("ascii"),
            "recipe_digest": recipe.digest,
            "weights": made.assembly.weights.source,
            "dataset": dataset.name,
            "made_by": f"headstart {version('headstart')}",
            **rule,
        },
    )


def _split(
    dataset: Dataset, made: Features, labels: NDArray[np.int64] | None, seed: int
) -> tuple[tuple[str, ...] | None, Mapping[str, str]]:
    """Return the data set's own split, or the holdout that `heads` would set aside."""
    if dataset.splits is not None:
        return dataset.splits, {"split_rule": OWN_SPLIT}
    if labels is None:
        return None, _NO_SPLIT
    duplicates = find_duplicates(made.keys, made.facts)
    split = holdout_split(dataset, made.keys, duplicates, seed)
    rule = f"test: the holdout of headstart heads, {HOLDOUT_FRACTION:.0%} by hash, seed {seed}"
    return tuple(split.tolist()), {"split_rule": rule}
