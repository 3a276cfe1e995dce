from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images


@pytest.fixture
def keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of Keras', on a machine whose network leads nowhere."""
    home = tmp_path / "keras"
    (home / "models").mkdir(parents=True)
    monkeypatch.setenv("KERAS_HOME", str(home))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    return home


@pytest.fixture(scope="session")
def photographs() -> list[NDArray[np.uint8]]:
    """scikit-learn's two sample photographs: a Chinese palace, a dahlia; 427 x 640."""
    china, flower = load_sample_images().images
    return [china, flower]


@pytest.fixture(scope="session")
def crops(photographs: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Three parts of each photograph, uint8 (6, 96, 96, 3)."""
    parts = [
        Image.fromarray(photo[:, left : left + 427]).resize((96, 96), Image.Resampling.BICUBIC)
        for photo in photographs
        for left in (0, 106, 213)
    ]
    return np.stack([np.asarray(part) for part in parts])
