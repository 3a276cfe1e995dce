"""Make the golden stores of the format that this version writes; run once a version, never again.

    python tests/cache/golden/make.py

Later versions must read what is committed here, so nothing here is ever made anew.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
from numpy.typing import NDArray

from cache import FORMAT_VERSION, FactsRecipe, FeatureRecipe, FeatureStore
from cache.recipe import Recipe, StorageDtype

HERE = Path(__file__).parent
ROWS, DIMS = 6, 5
DTYPES: tuple[StorageDtype, ...] = ("float32", "float16", "uint8")


def recipe_of(dtype: StorageDtype) -> Recipe:
    if dtype == "uint8":
        return FactsRecipe(decode="pillow-1", layout="golden-1")
    return FeatureRecipe(
        backbone="golden", weights="0" * 64, pooling="avg", size=32, resize="stretch-bicubic",
        decode="pillow-1", preprocessing="caffe", precision="float32", dtype=dtype,
    )  # fmt: skip


def rows_of(dtype: StorageDtype) -> tuple[NDArray[np.uint8], NDArray[Any], NDArray[np.uint32]]:
    """Keys, features and views that can be told by arithmetic alone."""
    keys = (np.arange(ROWS * 32, dtype=np.int64).reshape(ROWS, 32) * 7 % 251).astype(np.uint8)
    numbers = np.arange(ROWS * DIMS).reshape(ROWS, DIMS)
    features = numbers.astype(dtype) if dtype == "uint8" else (numbers / 8 - 1).astype(dtype)
    return keys, features, (np.arange(ROWS) % 2).astype(np.uint32)


def main() -> None:
    """Write one store a dtype, of two shards each that have a row in common, into one archive."""
    with (
        TemporaryDirectory() as root,
        ZipFile(HERE / f"version-{FORMAT_VERSION}.zip", "x", ZIP_DEFLATED) as archive,
    ):
        for dtype in DTYPES:
            made_by = {"made_by": "tests/cache/golden/make.py"}
            store = FeatureStore.open(Path(root), recipe_of(dtype), provenance=made_by)
            keys, features, views = rows_of(dtype)
            store.append(keys[:4], features[:4], views[:4])
            store.append(keys[3:], features[3:], views[3:])
        for file in sorted(Path(root).rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(root))


if __name__ == "__main__":
    main()
