"""Rows, recipes and other processes for the tests of the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import cache
from cache.recipe import FactsRecipe, FeatureRecipe, Recipe


def make_recipe(dtype: str = "float32", pooling: str = "avg") -> Recipe:
    if dtype == "uint8":
        return FactsRecipe(decode="pillow-1", layout=f"{pooling}-1")
    return FeatureRecipe(
        backbone="resnet50",
        weights="0" * 64,
        pooling=pooling,
        size=224,
        resize="stretch",
        decode="pillow-1",
        preprocessing="caffe",
        precision="float32",
        dtype=dtype,
    )


def make_rows(count: int, dims: int = 8, dtype: str = "float32", seed: int = 0) -> SimpleNamespace:
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 256, (count, dims))
    return SimpleNamespace(
        keys=rng.integers(0, 256, (count, 32), np.uint8), features=numbers.astype(dtype)
    )


@pytest.fixture
def recipe() -> Recipe:
    return make_recipe()


@pytest.fixture
def recipe_of() -> Callable[..., Recipe]:
    return make_recipe


@pytest.fixture
def rows_of() -> Callable[..., SimpleNamespace]:
    return make_rows


@pytest.fixture
def store(tmp_path: Path, recipe: Recipe) -> cache.FeatureStore:
    return cache.FeatureStore.open(tmp_path, recipe)


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start Python on a text that may use `store_in(folder)`, `make_rows` and its arguments."""
    here = Path(__file__)
    prelude = (
        "import sys, os, importlib.util\n"
        "from pathlib import Path\n"
        f"spec = importlib.util.spec_from_file_location('helpers', {str(here)!r})\n"
        "helpers = importlib.util.module_from_spec(spec); spec.loader.exec_module(helpers)\n"
        "make_rows, args = helpers.make_rows, sys.argv[1:]\n"
        "def store_in(root):\n"
        "    return helpers.cache.FeatureStore.open(Path(root), helpers.make_recipe())\n"
    )

    def start(text: str, *args: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", prelude + text, *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(here.parents[2])},
        )

    return start
