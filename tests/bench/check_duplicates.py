"""Near-duplicates: which planted copies are found, what else is taken for one, what it costs.

``python -m tests.bench.check_duplicates FOLDER... [--backbone NAME] [--sheet FILE] [--crowd N]``,
on class folders of real images.

- Recall: each image is stored again, scaled, mirrored, turned and cropped; the table says which
  share of each kind is found with its original, by the correlation that is asked for.
- Pairs among the images themselves, by that correlation: all of them, those of different labels,
  and those of different folders, which are false for certain. ``--sheet`` draws those from 0.8 on,
  to be looked at.
- ``--backbone``: the cosine of the features of each copy and its original, least and median.
- ``--crowd N``: seconds, processor seconds and peak memory to group N pictures: blends of two of
  the images each, random spectra, one picture or ten with noise, and one picture again and again.

Exit code 1 where less than 95 % of the copies of a kind are found, those cropped aside.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipeline.assemble import assemble
from pipeline.config import BackboneConfig, usable_cores
from pipeline.dataset import load_dataset
from pipeline.dataset.duplicates import SIMILAR, near_groups
from pipeline.dataset.groups import sizes
from pipeline.images.decode import Resize, load_rgb
from pipeline.images.facts import facts_of
from pipeline.images.neighbours import RADIUS
from pipeline.images.picture import PillowPicture
from pipeline.images.resize import resized
from pipeline.images.spectrum import (
    SIDE,
    SPECTRUM,
    codes,
    distance,
    similarity,
    spectrum_of,
    transposed,
    unit,
)
from tests.pipeline.drawings import jpeg, scaled

THRESHOLDS = (0.80, 0.85, 0.90, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98)
SHOWN = 0.80
T = Image.Transpose
Spectra = NDArray[np.int8]


def cropped(image: Image.Image) -> Image.Image:
    """Cut 5 % off the width and off the height, at a place that the size decides."""
    width, height = (round(side * 0.95) for side in image.size)
    rng = np.random.default_rng(image.size)
    x, y = rng.integers(0, image.width - width + 1), rng.integers(0, image.height - height + 1)
    return image.crop((int(x), int(y), int(x) + width, int(y) + height))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG 40": lambda image: jpeg(image, 40),
    "JPEG 65": lambda image: jpeg(image, 65),
    "JPEG 90": lambda image: jpeg(image, 90),
    "x 0.5": lambda image: jpeg(scaled(image, 0.5), 90),
    "x 0.75": lambda image: jpeg(scaled(image, 0.75), 90),
    "x 1.5": lambda image: jpeg(scaled(image, 1.5), 90),
    "x 2": lambda image: jpeg(scaled(image, 2), 90),
    "sideways": lambda image: jpeg(image.transpose(T.FLIP_LEFT_RIGHT), 90),
    "upside down": lambda image: jpeg(image.transpose(T.FLIP_TOP_BOTTOM), 90),
    "by 90": lambda image: jpeg(image.transpose(T.ROTATE_90), 90),
    "by 180": lambda image: jpeg(image.transpose(T.ROTATE_180), 90),
    "by 270": lambda image: jpeg(image.transpose(T.ROTATE_270), 90),
    "cropped": lambda image: jpeg(cropped(image), 90),
}


class Pictures:
    """A folder's images and their copies: int8 (1 + copies, n, 144), with borders and without."""

    def __init__(self, folder: str, size: int | None) -> None:
        with tempfile.TemporaryDirectory() as place:
            found = load_dataset(folder, Path(place))
        self.name, self.paths = Path(folder).name, found.paths
        self.labels = np.array(found.labels or [""] * len(found.paths))
        self._size = size
        with ThreadPoolExecutor(usable_cores()) as pool:
            made = list(pool.map(self._facts, self.paths))
        self.parts = [
            np.stack([each[part] for each in made], axis=1) for part in range(len(made[0]))
        ]

    def _facts(self, path: Path) -> list[NDArray[np.generic]]:
        image = load_rgb(path.read_bytes()).picture.image
        copies = [image, *(copy(image) for copy in COPIES.values())]
        facts = [facts_of(PillowPicture(each), "RGB", "JPEG") for each in copies]
        spectra = [
            np.stack([np.frombuffer(getattr(f, name), np.int8) for f in facts])
            for name in ("spectrum", "trimmed")
        ]
        if self._size is None:
            return spectra
        resize = Resize(self._size, self._size, "stretch")
        return [*spectra, np.stack([np.asarray(resized(each, resize)) for each in copies])]


def correlation(a: Sequence[Spectra], b: Sequence[Spectra]) -> NDArray[np.float32]:
    """Compare pairs as `near_groups` does: 0 where their codes are too far apart."""
    best = np.zeros(len(a[0]), np.float32)
    for one, other in zip(a, b, strict=True):
        told = one.any(axis=1) & other.any(axis=1)
        ways = (one, transposed(one))
        near = np.min([distance(codes(way), codes(other)) for way in ways], axis=0) <= RADIUS
        alike = np.max([similarity(unit(way), unit(other)) for way in ways], axis=0)
        best = np.maximum(best, np.where(near & told, alike, 0))
    return best


def recall(pictures: Pictures) -> bool:
    """Print the table of what is found of the copies."""
    print(f"\n{pictures.name}: {len(pictures.paths)} images, share of copies found")
    print(f"{'correlation of at least':<24}" + "".join(f"{t:>7.2f}" for t in THRESHOLDS))
    spectra, fine = pictures.parts[:2], True
    for k, name in enumerate(COPIES, 1):
        alike = correlation([part[0] for part in spectra], [part[k] for part in spectra])
        print(f"{name:<24}" + "".join(f"{(alike >= t).mean():>7.3f}" for t in THRESHOLDS))
        fine &= bool((alike >= SIMILAR).mean() >= 0.95) or name == "cropped"
    return fine


def pairs_among(sets: Sequence[Pictures]) -> list[tuple[float, int, int]]:
    """Print how many pairs there are among the images themselves; return those to be looked at."""
    spectra = [np.concatenate([each.parts[part][0] for each in sets]) for part in (0, 1)]
    label = np.concatenate([each.labels for each in sets])
    folder = np.repeat(np.arange(len(sets)), [len(each.paths) for each in sets])
    found = []
    for i in range(len(label)):
        alike = correlation(
            [np.repeat(part[i : i + 1], len(label) - i - 1, axis=0) for part in spectra],
            [part[i + 1 :] for part in spectra],
        )
        found += [(float(alike[k]), i, i + 1 + int(k)) for k in np.flatnonzero(alike >= SHOWN)]
    at = np.array([value for value, _, _ in found])
    across = np.array([folder[i] != folder[j] for _, i, j in found], bool)
    torn = np.array([label[i] != label[j] for _, i, j in found], bool)
    print("\npairs among the images themselves")
    print(f"{'correlation of at least':<24}" + "".join(f"{t:>7.2f}" for t in THRESHOLDS))
    for k, each in enumerate(sets):
        inside = np.array([folder[i] == folder[j] == k for _, i, j in found], bool)
        for name, kind in ((each.name, inside), ("  of different labels", inside & torn)):
            print(f"{name:<24}" + "".join(f"{(kind & (at >= t)).sum():>7}" for t in THRESHOLDS))
    print(
        f"{'across the folders':<24}"
        + "".join(f"{(across & (at >= t)).sum():>7}" for t in THRESHOLDS)
    )
    group, _ = near_groups(spectra)
    several = sizes(group) > 1
    print(
        f"groups by heads' rule: {len(np.unique(group[several]))} of {several.sum()} images, "
        f"the largest of {sizes(group).max()}"
    )
    return sorted(found)


def draw(file: Path, sets: Sequence[Pictures], pairs: list[tuple[float, int, int]]) -> None:
    """Draw the least alike of the pairs side by side, at most 120 of them."""
    paths = [path for each in sets for path in each.paths]
    side, across = 150, 6
    rows = -(-min(len(pairs), 120) // across)
    sheet = Image.new("RGB", (across * (2 * side + 10), max(1, rows) * (side + 16)), "white")
    for place, (value, i, j) in enumerate(pairs[:120]):
        y, x = place // across * (side + 16), place % across * (2 * side + 10)
        ImageDraw.Draw(sheet).text((x, y), f"{value:.3f}", fill="black")
        for k, path in enumerate((paths[i], paths[j])):
            image = load_rgb(path.read_bytes()).picture.image
            image.thumbnail((side, side))
            sheet.paste(image, (x + k * side, y + 14))
    sheet.save(file)


def features(pictures: Pictures, backbone: str) -> None:
    """Print how alike the features of copies are."""
    with tempfile.TemporaryDirectory() as place:
        engine = assemble(BackboneConfig(backbone=backbone)).engine(Path(place))
        rows = [
            np.concatenate([engine(images[i : i + 32])[0] for i in range(0, len(images), 32)])
            for images in pictures.parts[2]
        ]
    first, *others = (row / np.linalg.norm(row, axis=1, keepdims=True) for row in rows)
    print(f"\n{pictures.name}: cosine of {backbone}'s features{'least':>10}{'median':>10}")
    for name, row in zip(COPIES, others, strict=True):
        cosine = (first * row).sum(axis=1)
        print(f"  {name:<44}{cosine.min():>10.3f}{np.median(cosine):>10.3f}")


def crowds(sets: Sequence[Pictures], count: int) -> dict[str, Callable[[], Spectra]]:
    """Name the makers of many spectra."""
    rng = np.random.default_rng(0)
    grey = [
        np.asarray(
            load_rgb(path.read_bytes()).picture.image.convert("L").resize((SIDE, SIDE)), float
        )
        for each in sets
        for path in each.paths
    ]

    def spectra(pictures: Sequence[NDArray[np.float64]]) -> Spectra:
        levels = (np.clip(np.rint(each), 0, 255).astype(np.uint8) for each in pictures)
        return np.stack([spectrum_of(each) for each in levels])

    def blend() -> NDArray[np.float64]:
        i, j = rng.integers(0, len(grey), 2)
        share = rng.uniform(0.3, 0.7)
        return grey[i] * share + grey[j][:, ::-1] * (1 - share)

    one = grey[0]
    return {
        "blends": lambda: spectra([blend() for _ in range(count)]),
        "random": lambda: rng.integers(-128, 128, (count, SPECTRUM)).astype(np.int8),
        "one with noise": lambda: spectra(
            [one + rng.normal(0, 4, one.shape) for _ in range(count)]
        ),
        "ten with noise": lambda: spectra(
            [grey[i % 10] + rng.normal(0, 4, one.shape) for i in range(count)]
        ),
        "one again": lambda: np.tile(spectrum_of(one.astype(np.uint8)), (count, 1)),
    }


def timed(sets: Sequence[Pictures], count: int) -> None:
    """Print what it takes to group many pictures."""
    print(f"\n{count} pictures{'seconds':>14}{'processor s':>14}{'peak MB':>10}{'groups':>10}")
    for name, make in crowds(sets, count).items():
        spectra = make()
        tracemalloc.start()
        wall, cpu = time.perf_counter(), time.process_time()
        group, _ = near_groups([spectra])
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        print(f"  {name:<15}{wall:>12.1f}{cpu:>14.1f}{peak:>10.0f}{len(np.unique(group)):>10}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", help="class folders of real images")
    parser.add_argument("--backbone", help="compare features of copies as well")
    parser.add_argument("--sheet", type=Path, help="draw the pairs there, to be looked at")
    parser.add_argument("--crowd", type=int, default=0, help="time the grouping of so many")
    flags = parser.parse_args()
    size = assemble(BackboneConfig(backbone=flags.backbone)).recipe.size if flags.backbone else None
    sets = [Pictures(folder, size) for folder in flags.folders]
    told = [recall(each) for each in sets]
    pairs = pairs_among(sets)
    if flags.sheet:
        draw(flags.sheet, sets, pairs)
    for each in sets if flags.backbone else ():
        features(each, flags.backbone)
    if flags.crowd:
        timed(sets, flags.crowd)
    return int(not all(told))


if __name__ == "__main__":
    sys.exit(main())
