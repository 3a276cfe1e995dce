"""What a precision costs: features and labels of each engine and precision against float32 Keras.

``python tests/bench/check_precision.py [FOLDER...] [--backbones NAME...] [--images N]``, on class
folders of real images and on the built-in digits. One line an engine and precision:

- features: mean and least cosine, mean relative error (length of the difference over length of the
  row) and the largest difference of a number as a part of its row's largest, against Keras in
  float32; the line "float64" is Keras in float64 on a few images: what float32 itself is off.
- labels: share of the out-of-fold labels of the default linear heads that stay, per data set, and
  over all of them together; what float32 of another engine changes is what rounding alone does.

Where a backbone's ImageNet weights are not at hand, random ones are taken and the table says so:
they are no evidence for trained ones. Exit code 1 where the registry lets ``auto`` take bfloat16
for a backbone of which less than 99 % of the labels stay.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones import Backbone, Weights, backbone, resolve_weights
from pipeline.backbones.quiet import import_keras
from pipeline.config import usable_cores
from pipeline.dataset import load_dataset
from pipeline.engines import Engine, Output
from pipeline.engines.agreement import deviations_of
from pipeline.engines.graph import graph
from pipeline.engines.keras_engine import KerasEngine
from pipeline.engines.openvino_engine import OpenVinoEngine, has_bfloat16
from pipeline.errors import WeightsUnavailable
from pipeline.evaluate import folds
from pipeline.heads import FoldRows, default_specs, fit_one, trainer
from pipeline.images.batches import decoded_batches
from pipeline.images.decode import Resize

KEPT = 0.99
BATCH = 32
IN_FLOAT64 = 8
LINEAR = ("logistic", "ridge", "svm")


@dataclass(frozen=True)
class Images:
    """A labelled data set, decoded: uint8 (n, size, size, 3) and int64 (n,)."""

    name: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


def images_of(data: str, size: int, most: int, out: Path) -> Images:
    found = load_dataset(data, out)
    chosen = np.random.default_rng(0).permutation(len(found.paths))[:most]
    batches = decoded_batches(
        [found.paths[i] for i in chosen],
        None,
        Resize(size, size, "stretch"),
        batch_size=BATCH,
        workers=usable_cores(),
    )
    kept = [batch for batch in batches if batch.positions]
    pixels = np.concatenate([batch.pixels() for batch in kept])
    positions = chosen[[i for batch in kept for i in batch.positions]]
    _, labels = np.unique([found.labels[i] for i in positions], return_inverse=True)
    return Images(Path(data).name, pixels, labels)


def features_of(engine: Engine, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    parts = [engine(pixels[i : i + BATCH])[0] for i in range(0, len(pixels), BATCH)]
    return np.concatenate(parts)


def in_float64(row: Backbone, weights: Weights, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    model, _ = graph(
        row, weights, size=row.size, outputs=[Output()], batch_size=len(pixels), policy="float64"
    )
    keras = import_keras()
    return np.asarray(keras.ops.convert_to_numpy(keras.tree.flatten(model(pixels))[0]))


def out_of_fold(features: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels that each default linear head gives to each image: int64 (heads, n)."""
    parts = folds(labels, None, 5, 0)
    given = np.empty((len(default_specs(LINEAR)), len(labels)), np.int64)
    for line, spec in zip(given, default_specs(LINEAR), strict=True):
        for train, test in parts:
            rows = FoldRows(features[train], labels[train], int(labels.max()) + 1)
            head = fit_one(trainer(spec), rows, 0).head
            line[test] = head.logits(features[test]).argmax(axis=1)
    return given


def line_of(
    name: str, reference: NDArray[np.floating], rows: NDArray[np.floating], labels: str = ""
) -> None:
    a, b = reference.astype(np.float64), rows.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1)
    cosines = (a * b).sum(axis=1) / lengths / np.linalg.norm(b, axis=1)
    relative = np.linalg.norm(a - b, axis=1) / lengths
    print(
        f"  {name:<24} {cosines.mean():10.6f} {cosines.min():10.6f} {relative.mean():10.2e}"
        f" {deviations_of(a, b).max():10.2e}  {labels}",
        flush=True,
    )


def check(row: Backbone, sets: list[Images], folder: Path) -> bool:
    """Print the lines of one backbone; tell whether its default precision is one that it may be."""
    try:
        weights = resolve_weights(row, "imagenet")
    except WeightsUnavailable:
        weights = resolve_weights(row, "random")
    print(f"{row.name}, {weights.source} weights, {row.size}x{row.size}")
    print(f"  {'':<24} {'cosine':>10} {'least':>10} {'relative':>10} {'largest':>10}  labels kept")
    keras_engine = KerasEngine(row, weights, size=row.size, batch_size=BATCH)
    reference = [features_of(keras_engine, each.pixels) for each in sets]
    given = [out_of_fold(f, s.labels) for f, s in zip(reference, sets, strict=True)]
    few = np.concatenate([each.pixels[:IN_FLOAT64] for each in sets])
    truth = in_float64(row, weights, few)
    line_of("float64 (few)", truth, np.concatenate([each[:IN_FLOAT64] for each in reference]))
    others: dict[str, Callable[[], Engine]] = {
        "openvino float32": lambda: OpenVinoEngine(row, weights, size=row.size, folder=folder),
        "keras bfloat16": lambda: KerasEngine(
            row, weights, size=row.size, precision="bfloat16", batch_size=BATCH
        ),
    }
    if has_bfloat16():
        others["openvino bfloat16"] = lambda: OpenVinoEngine(
            row, weights, size=row.size, precision="bfloat16", folder=folder
        )
    fine = True
    for name, make in others.items():
        engine = make()
        rows = [features_of(engine, each.pixels) for each in sets]
        same = [
            out_of_fold(f, s.labels) == before
            for f, s, before in zip(rows, sets, given, strict=True)
        ]
        kept = np.concatenate([each.ravel() for each in same]).mean()
        told = ", ".join(f"{s.name} {k.mean():.4f}" for s, k in zip(sets, same, strict=True))
        line_of(name, np.concatenate(reference), np.concatenate(rows), f"{kept:.4f} ({told})")
        if engine.precision == "bfloat16" and row.bfloat16:
            fine &= weights.source == "imagenet" and bool(kept >= KEPT)
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", help="class folders of real images")
    parser.add_argument("--backbones", nargs="+", default=["efficientnet-lite0", "resnet50"])
    parser.add_argument("--images", type=int, default=2000, help="at most so many of each set")
    flags = parser.parse_args()
    fine = True
    with tempfile.TemporaryDirectory() as place:
        for name in flags.backbones:
            row = backbone(name)
            sets = [
                images_of(data, row.size, flags.images, Path(place))
                for data in (*flags.folders, "digits")
            ]
            fine &= check(row, sets, Path(place))
    return int(not fine)


if __name__ == "__main__":
    sys.exit(main())
