"""Small real image folders, and the command line as a user meets it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline import cli
from pipeline.config import BackboneConfig, FeaturesConfig
from pipeline.events import ignore
from pipeline.stage_one import find_dataset, make_features

SMALL = ("--backbone", "efficientnet-lite0", "--size", "32")


@dataclass(frozen=True)
class Ran:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code in (0, 1, 2), self.err
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def keras_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``auto`` take Keras: a conversion would cost each test's own cache some seconds."""
    monkeypatch.setattr("pipeline.engines.choice.installed", lambda: False)


@pytest.fixture
def headstart(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """Run the command in this process (Keras is imported once) and return what it left."""

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["headstart", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capfd.readouterr()
        return Ran(int(left.value.code or 0), out, err)

    return run


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def paint(path: Path, seed: int, colour: tuple[int, int, int] = (128, 128, 128)) -> Path:
    """Write a small picture of noise around a colour."""
    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.normal(colour, 25, (24, 36, 3)), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def paint_photos(root: Path) -> Path:
    """Paint a class-per-folder tree: 2 classes that a head can tell apart, 12 images each."""
    for i in range(12):
        paint(root / "red" / f"{i}.png", seed=i, colour=(150, 40, 30))
        paint(root / "blue" / f"{i}.jpg", seed=100 + i, colour=(60, 120, 240))
    return root


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return paint_photos(tmp_path / "photos")


@pytest.fixture(scope="session")
def filled_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the features of `photos`; to be copied, not changed."""
    place = tmp_path_factory.mktemp("filled")
    config = FeaturesConfig(
        data=str(paint_photos(place / "photos")),
        out=place / "out",
        backbone=BackboneConfig(backbone=SMALL[1], size=int(SMALL[3]), engine="keras"),
    )
    make_features(config, find_dataset(config), ignore)
    return config.out


@pytest.fixture
def filled(filled_once: Path, photos: Path) -> Path:
    """A cache of its own, beside `photos`, that holds their features."""
    return shutil.copytree(filled_once, photos.parent / "out")
