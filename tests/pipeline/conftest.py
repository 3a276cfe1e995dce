"""Small real image folders, and the command line as a user meets it."""

from __future__ import annotations

import json
import os
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


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A class-per-folder tree: 2 classes that a head can tell apart, 12 images each."""
    root = tmp_path / "photos"
    for i in range(12):
        paint(root / "red" / f"{i}.png", seed=i, colour=(150, 40, 30))
        paint(root / "blue" / f"{i}.jpg", seed=100 + i, colour=(60, 120, 240))
    return root
