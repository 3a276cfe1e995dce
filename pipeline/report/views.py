"""What is told of augmented views: what they are, what they cost, and what they are used for."""

from __future__ import annotations

from typing import Any

from pipeline.stage_one import Augmented, Features
from pipeline.stage_two import Heads
from pipeline.text import human_bytes, plural


def augmented_json(augmented: Augmented | None) -> dict[str, Any] | None:
    """Return what ``features --json`` tells of the views beside one store."""
    if augmented is None:
        return None
    return {
        "store": str(augmented.store.folder),
        "policy": augmented.policy.name,
        "seed": augmented.policy.seed,
        "views": augmented.views,
        "new": augmented.new,
        "reused": augmented.reused,
        "bytes": augmented.store.nbytes,
    }


def augmented_line(augmented: Augmented, made: Features) -> str:
    """Tell of the views what they are, and what they cost."""
    seed = f", seed {augmented.policy.seed}" if augmented.policy.seed else ""
    cost = ""
    if augmented.new:
        # A view goes the way of a plain picture, but for the decoding, which all of them share.
        seconds = made.extracting * augmented.new / made.rows_new
        cost = f" in about {seconds:.1f} s"
    store = augmented.store
    return (
        f"views      {augmented.views} more of each image by {augmented.policy.text}{seed}: "
        f"{augmented.new} new{cost}, {augmented.reused} reused; {store.folder} (holds "
        f"{plural(store.rows, 'row')}, {human_bytes(store.nbytes)})"
    )


def views_json(heads: Heads) -> dict[str, Any]:
    """Return what ``heads --json`` tells of the views."""
    augmented = heads.features.made[0].augmented
    return {
        "trained_on": 1 if augmented is None else augmented.views + 1,
        "policy": None if augmented is None else augmented.policy.name,
        "averaged": augmented is not None and heads.config.tta,
    }


def views_lines(heads: Heads) -> list[str]:
    """Say which rows heads were trained on and scored by; nothing where there is one an image."""
    augmented = heads.features.made[0].augmented
    if augmented is None:
        return []
    scored = "by the mean of its views" if heads.config.tta else "as it is"
    return [
        f"trained on {augmented.views + 1} views of each training image "
        f"({augmented.policy.text}); an image is scored {scored}"
    ]
