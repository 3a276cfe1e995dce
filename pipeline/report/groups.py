"""Groups and duplicates, as JSON, as a line of the summary, and as a table of who is with whom."""

from __future__ import annotations

import csv
from typing import Any

import numpy as np

from pipeline.dataset.groups import sizes
from pipeline.stage_two import Heads
from pipeline.text import plural

TABLE = "duplicates.csv"
"""Name of the table in a run's folder."""


def groups_json(heads: Heads) -> dict[str, Any]:
    """Return how many groups of several images there are, how many images, and what became of them.

    Groups are made of equal files, equal pixels, near-duplicates, and of the user's own.
    """
    groups, images = _counted(heads)
    return {"groups": groups, "grouped_images": images, "kept_together": heads.config.groups}


def groups_line(heads: Heads) -> str:
    """Return the line of the summary: what the folds were kept from dividing, or were not."""
    groups, images = _counted(heads)
    if not groups:
        return "groups       none: no two images are duplicates, or of one group of yours"
    several = f"{plural(groups, 'group')} of {images} duplicates and near-duplicates"
    if heads.features.dataset.groups:
        several = f"{plural(groups, 'group')} of {images} images, your own and near-duplicates"
    if not heads.config.groups:
        return (
            f"NO GROUPS: {several} were left to chance: folds and holdout may have divided them, "
            f"and the scores flatter (who is with whom: {TABLE} beside the head file)"
        )
    return f"groups       {several}, none divided (who is with whom: {TABLE} beside the head file)"


def write_duplicates(heads: Heads) -> None:
    """Write who is with whom: a row for each image in a group of several, group by group.

    Columns: the group's number, the image's path and label, its role (empty for one left out), what
    ties it to others most closely (exact, pixels, near or user), and for near-duplicates 1 minus
    the correlation with their reference, which itself has 0.
    """
    found, roles, duplicates = heads.roles.found, heads.roles.role, heads.duplicates
    relations = duplicates.relations(found)
    dataset = heads.features.dataset
    several = np.flatnonzero(sizes(found) > 1)
    several = several[np.argsort(found[several], kind="stable")]
    number = np.unique(found[several], return_inverse=True)[1] + 1
    path = heads.folder / TABLE
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        table = csv.writer(file)
        table.writerow(("group", "path", "label", "split", "relation", "distance"))
        for group, i in zip(number.tolist(), several.tolist(), strict=True):
            label = dataset.labels[i] if dataset.labels else ""
            apart = f"{duplicates.distance[i]:.4f}" if relations[i] != "user" else ""
            table.writerow((group, dataset.paths[i], label, roles[i], relations[i], apart))


def _counted(heads: Heads) -> tuple[int, int]:
    found = heads.roles.found
    several = found[sizes(found) > 1]
    return len(np.unique(several)), len(several)
