"""What stage one says at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pipeline.report.views import augmented_json, augmented_line
from pipeline.stage_one import Features, Made
from pipeline.text import human_bytes, one_line, plural

MOST_REASONS = 5
MOST_CLASSES = 12


def features_json(made: Features) -> dict[str, Any]:
    """Return the object that ``features --json`` prints."""
    recipe = made.assembly.recipe
    return {
        "images": len(made.keys),
        "new": made.new,
        "reused": made.reused,
        "rows_new": made.rows_new,
        "rows_reused": made.rows_reused,
        "rejected": len(made.rejects),
        "ignored": made.dataset.ignored,
        "store": str(made.store.folder),
        "stores": [str(each.store.folder) for each in made.made],
        "bytes": made.store.nbytes,
        "dims": made.store.dims,
        "doubles": len(made.keys) - made.new - made.reused,
        "images_per_second": round(made.images_per_second, 2),
        "network_busy": round(made.busy, 3),
        "seconds": round(made.seconds, 3),
        "backbone": recipe.backbone,
        "weights": made.assembly.weights.source,
        "weights_sha256": recipe.weights,
        "pooling": recipe.pooling,
        "size": recipe.size,
        "precision": recipe.precision,
        "engine": made.assembly.choice.engine,
        "engine_why": made.assembly.choice.why,
        "views": 1 if made.made[0].augmented is None else made.made[0].augmented.views + 1,
        "made": [_made_json(each) for each in made.made],
    }


def _made_json(made: Made) -> dict[str, Any]:
    recipe = made.assembly.recipe
    return {
        "store": str(made.store.folder),
        "new": made.new,
        "reused": made.reused,
        "bytes": made.store.nbytes,
        "dims": made.store.dims,
        "backbone": recipe.backbone,
        "weights": made.assembly.weights.source,
        "size": recipe.size,
        "layer": recipe.layer,
        "pooling": recipe.pooling,
        "precision": recipe.precision,
        "augmented": augmented_json(made.augmented),
        "bn": recipe.bn,
    }


def weights_text(source: str) -> str:
    """Name where weights come from; random ones are for tests, and that is said everywhere."""
    names = {"imagenet": "ImageNet weights", "file": "weights from a file"}
    return names.get(source, "RANDOM weights: for tests only, the features mean nothing")


def _classes(labels: Sequence[str]) -> str:
    """Name the classes with their counts, the largest first."""
    counts = Counter(labels).most_common()
    told = ", ".join(f"{one_line(name)} {count}" for name, count in counts[:MOST_CLASSES])
    rest = f" and {len(counts) - MOST_CLASSES} more" if len(counts) > MOST_CLASSES else ""
    return f"{len(counts)}: {told}{rest}"


def features_text(made: Features) -> str:
    """Return the closing summary: how many, how fast, where, how large, what was rejected."""
    speed = (
        f"{made.new} new at {made.images_per_second:.0f} images/s"
        f" (network busy {made.busy:.0%}) after {made.startup:.1f} s to build it"
    )
    lines = [
        f"{plural(len(made.keys), 'image')}: {speed if made.new else 'none new'},"
        f" {made.reused} reused, {made.seconds:.1f} s in all",
    ]
    for each in made.made:
        told = f"; {each.new} new, {each.reused} reused" if len(made.made) > 1 else ""
        lines += [_backbone_line(each), _store_line(each) + told]
        if each.augmented:
            lines.append(augmented_line(each.augmented, made))
    if made.new:
        choice = made.assembly.choice
        lines.insert(2, f"engine     {choice.engine} ({choice.why})")
    if made.dataset.labels is not None:
        lines.append(f"classes    {_classes(made.dataset.labels)}")
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


def _backbone_line(made: Made) -> str:
    recipe = made.assembly.recipe
    layer = "" if recipe.layer == "top" else f" {recipe.layer},"
    return (
        f"backbone   {recipe.backbone} ({weights_text(made.assembly.weights.source)}),"
        f" {recipe.size}x{recipe.size}, {recipe.resize},{layer} {recipe.pooling} pooling,"
        f" {recipe.precision}" + ("" if recipe.bn == "stored" else f", BatchNorm {recipe.bn}")
    )


def _store_line(made: Made) -> str:
    store = made.store
    size = f"{plural(store.rows, 'row')} x {store.dims or 0}, {human_bytes(store.nbytes)}"
    return f"store      {store.folder} (holds {size})"
