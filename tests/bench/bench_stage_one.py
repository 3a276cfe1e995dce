"""Stage one from JPEG files to committed rows, against `keras.Model.predict`, in turn.

The peer is what tutorials do: `image_dataset_from_directory` into `predict`, the same network with
the same weights, nothing kept on disk. Prints the median images/s of each and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.assemble import assemble
from pipeline.backbones.build import build
from pipeline.backbones.preprocessing import preprocess
from pipeline.backbones.quiet import import_keras
from pipeline.config import BackboneConfig, FeaturesConfig
from pipeline.events import ignore
from pipeline.stage_one import find_dataset, make_features


def write_photos(root: Path, count: int) -> None:
    """Write JPEG files of 480x640 with structure at every scale, two classes."""
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
        image = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
        path = root / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=90)


def ours(data: Path, out: Path, backbone: BackboneConfig) -> float:
    """Return the images/s of one run into an empty cache, start of the network not counted."""
    config = FeaturesConfig(data=str(data), out=out, backbone=backbone)
    return make_features(config, find_dataset(config), ignore).images_per_second


def peer(data: Path, backbone: BackboneConfig) -> float:
    """Return the images/s of predict over image_dataset_from_directory, after a first batch."""
    keras = import_keras()
    assembly = assemble(backbone)
    size = assembly.recipe.size
    pixels = keras.Input((size, size, 3))
    maps = build(assembly.backbone, assembly.weights, size)(
        preprocess(assembly.backbone.preprocessing, pixels)
    )
    model = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(maps))
    images = keras.utils.image_dataset_from_directory(
        data, labels=None, image_size=(size, size), batch_size=32, shuffle=False, verbose=False
    )
    model.predict(images.take(1), verbose=0)
    began = time.monotonic()
    rows = model.predict(images, verbose=0)
    return len(rows) / (time.monotonic() - began)


def main() -> None:
    # `make bench` gives all benchmarks the same flags.
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--repeat", "--rounds", type=int, default=5, help="rounds", dest="rounds")
    parser.add_argument("--quick", action="store_true", help="small: no figure to quote")
    flags, others = parser.parse_known_args()
    if others:
        print(f"not for this benchmark: {' '.join(others)}", file=sys.stderr)
    if flags.quick:
        flags.images, flags.rounds = min(32, flags.images), 1
    print(f"{'backbone':<20} {'headstart':>10} {'predict':>10} {'ratio':>6}   (images/s, medians)")
    for name in ("resnet50", "efficientnet-lite0"):
        backbone = BackboneConfig(backbone=name, weights="random")
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            write_photos(place / "photos", flags.images)
            pairs = [
                (
                    ours(place / "photos", place / f"out{i}", backbone),
                    peer(place / "photos", backbone),
                )
                for i in range(flags.rounds)
            ]
        ratio = statistics.median(a / b for a, b in pairs)
        a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{name:<20} {a:>10.1f} {b:>10.1f} {ratio:>6.2f}")


if __name__ == "__main__":
    main()
