"""The real stage one over tiny images, with a network whose features follow from the pixels.

What this relies on: `pipeline.stage_one.find_dataset` and `make_features`, the names of the fields
of `FeaturesConfig` and `BackboneConfig`, that an engine is made as `KerasEngine(..., size=,
outputs=, batch_size=)` by whoever imports it from its module, the protocol `Engine`, and the event
`RowsKept`. Which stores there are and what is in them is read from the disk.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from cache import FeatureStore
from pipeline.config import BackboneConfig, FeaturesConfig
from pipeline.events import RowsKept
from pipeline.stage_one import find_dataset, make_features
from tests.torture.children import start
from tests.torture.world import Tally

IMAGES = 40
SIZE = 32
DIMS = 40
BATCH = 4
_KEPT = struct.Struct("<I")

Rows = dict[str, dict[tuple[bytes, int], bytes]]
"""Of each store, by the name of its folder: the bytes of each row by key and view."""


class Engine:
    """A network of one layer, in whole numbers: its features are the same to the bit anywhere."""

    name, precision = "fake", "float32"

    def __init__(
        self, *_: object, size: int, outputs: Sequence[Any], batch_size: int, **__: object
    ) -> None:
        self.outputs, self.batch_size = tuple(outputs), batch_size
        self.dims = (DIMS,) * len(self.outputs)
        shape = (len(self.outputs), size * size * 3, DIMS)
        self._weights = np.random.default_rng(0).integers(0, 256, shape)

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        flat = images.reshape(len(images), -1).astype(np.int64)
        return tuple((flat @ each % 65521).astype(np.float32) for each in self._weights)


def use_fake_engine() -> None:
    """Let whoever imports the engine of this process get the fake one; Keras stays away."""
    module = ModuleType("pipeline.engines.keras_engine")
    module.KerasEngine = Engine  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module


def paint(folder: Path) -> Path:
    """Paint images of noise in two classes, two of them alike."""
    rng = np.random.default_rng(0)
    for n in range(IMAGES):
        path = folder / "ab"[n % 2] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 7, 3), np.uint8)).save(path)
    (folder / "a" / "again.png").write_bytes((folder / "b" / "1.png").read_bytes())
    return folder


def extract(data: Path, out: Path, pipe: int) -> None:
    """Run stage one; tell how many rows each report says are kept."""
    use_fake_engine()
    config = FeaturesConfig(
        data=str(data),
        out=out,
        backbone=BackboneConfig(
            backbone="resnet50", weights="random", size=SIZE, batch_size=BATCH, engine="keras"
        ),
        commit_seconds=0.0,
    )

    def observe(event: object) -> None:
        if isinstance(event, RowsKept):
            os.write(pipe, _KEPT.pack(event.rows))

    make_features(config, find_dataset(config), observe)


def rows_of(out: Path) -> Rows:
    """Read all stores below a folder."""
    found: Rows = {}
    for recipe in sorted(out.glob("*/*/recipe.json")):
        store = FeatureStore.at(recipe.parent)
        found[str(recipe.parent.relative_to(out))] = {
            (key.tobytes(), int(view)): row.tobytes()
            for block in store.blocks()
            for key, view, row in zip(block.keys, block.views, block.features, strict=True)
        }
    return found


def reported(said: bytes) -> int:
    """Add up the rows that were reported as kept."""
    return sum(rows for (rows,) in _KEPT.iter_unpack(said[: len(said) // 4 * 4]))


@dataclass(frozen=True, slots=True)
class Images:
    """Images, and what an undisturbed run makes of them."""

    data: Path
    truth: Rows


class Stage:
    """Stage one, killed: reports say how many rows are kept, and all rows are new ones."""

    name = "stage one"

    def __init__(self, images: Images) -> None:
        self.images = images
        self._seen: Rows = {}

    @staticmethod
    def prepared(root: Path) -> Images:
        """Paint images, and let a process run over them undisturbed."""
        data = paint(root / "data")
        said, code = start(lambda pipe: extract(data, root / "out", pipe)).wait()
        truth = rows_of(root / "out")
        features = [rows for name, rows in truth.items() if name.startswith("features")]
        if code or not features or len(features[0]) != IMAGES or reported(said) < IMAGES:
            raise RuntimeError(f"stage one ended with {code}, rows of {[*map(len, features)]}")
        return Images(data, truth)

    def work(self, root: Path, pipe: int, seed: str) -> None:
        extract(self.images.data, root, pipe)

    def look(self, root: Path, said: bytes, tally: Tally, what: str) -> None:
        found = rows_of(root)
        wrong = sum(
            self.images.truth.get(name, {}).get(row) != content
            for name, rows in found.items()
            for row, content in rows.items()
        )
        gone = sum(
            len(rows.keys() - found.get(name, {}).keys()) for name, rows in self._seen.items()
        )
        # Reports count: as many rows as they say must have come to those that were there.
        new = _features(found) - _features(self._seen)
        lost = max(gone, reported(said) - new)
        if lost > 0 or wrong:
            tally.tell(what, lost=max(lost, 0), misread=wrong)
        self._seen = found

    def at_the_end(self, root: Path, tally: Tally, what: str) -> None:
        findings = [f for name in self._seen for f in FeatureStore.at(root / name).verify()]
        if self._seen != self.images.truth or findings:
            tally.tell(f"{what}: the end is not an undisturbed run's {findings[:1]}", unhealed=1)


def _features(rows: Rows) -> int:
    return sum(len(each) for name, each in rows.items() if name.startswith("features"))
