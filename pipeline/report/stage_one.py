"""What stage one says at its end."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pipeline.report.units import human_bytes, plural
from pipeline.stage_one import Features

MOST_REASONS = 5


def features_json(made: Features) -> dict[str, Any]:
    """Return the object that ``features --json`` prints."""
    recipe = made.assembly.recipe
    return {
        "images": len(made.keys),
        "new": made.new,
        "reused": made.reused,
        "rejected": len(made.rejects),
        "ignored": made.dataset.ignored,
        "store": str(made.store.folder),
        "bytes": made.store.nbytes,
        "dims": made.store.dims,
        "doubles": len(made.keys) - made.new - made.reused,
        "images_per_second": round(made.images_per_second, 2),
        "seconds": round(made.seconds, 3),
        "backbone": recipe.backbone,
        "weights": made.assembly.weights.source,
        "weights_sha256": recipe.weights,
        "pooling": recipe.pooling,
        "size": recipe.size,
        "precision": recipe.precision,
        "engine": made.assembly.choice.engine,
        "engine_why": made.assembly.choice.why,
    }


def weights_text(source: str) -> str:
    """Name where weights come from; random ones are for tests, and that is said everywhere."""
    names = {"imagenet": "ImageNet weights", "file": "weights from a file"}
    return names.get(source, "RANDOM weights: for tests only, the features mean nothing")


def features_text(made: Features) -> str:
    """Return the closing summary: how many, how fast, where, how large, what was rejected."""
    recipe = made.assembly.recipe
    speed = (
        f"{made.new} new at {made.images_per_second:.0f} images/s"
        f" after {made.startup:.1f} s to build the network"
    )
    lines = [
        f"{plural(len(made.keys), 'image')}: {speed if made.new else 'none new'},"
        f" {made.reused} reused, {made.seconds:.1f} s in all",
        f"backbone   {recipe.backbone} ({weights_text(made.assembly.weights.source)}),"
        f" {recipe.size}x{recipe.size}, {recipe.resize}, {recipe.pooling} pooling,"
        f" {recipe.precision}",
        f"store      {made.store.folder} ({plural(made.store.rows, 'row')} x {made.store.dims},"
        f" {human_bytes(made.store.nbytes)})",
    ]
    if made.new:
        choice = made.assembly.choice
        lines.insert(2, f"engine     {choice.engine} ({choice.why})")
    doubles = len(made.keys) - made.new - made.reused
    if doubles:
        lines.append(
            f"doubles    {plural(doubles, 'image')} with the same bytes as another, computed once"
        )
    if made.dataset.ignored:
        lines.append(f"ignored    {plural(made.dataset.ignored, 'file')} that are no images")
    if made.rejects:
        reasons = Counter(reject.reason for reject in made.rejects).most_common()
        told = "; ".join(f"{reason} ({count})" for reason, count in reasons[:MOST_REASONS])
        rest = sum(count for _, count in reasons[MOST_REASONS:])
        lines.append(
            f"rejected   {len(made.rejects)}: {told}"
            + (f"; and {rest} for other reasons" if rest else "")
            + f"; all in {made.store.folder / 'rejects.jsonl'}"
        )
    return "\n".join(lines)
