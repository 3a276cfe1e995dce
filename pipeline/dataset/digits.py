"""The built-in demo: scikit-learn's handwritten digits, rendered as image files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.images.find import find_images

DIGITS = 1797
"""How many images the demo has."""

_SIDE = 64  # eight times the original, so that people can look at them


def render_digits(out: Path) -> Path:
    """Render the digits to ``<out>/digits/<class>/<number>.png``, those that are not there yet.

    Each file is written beside and renamed, so what is there is whole, and a rendering that was
    interrupted is completed by the next call. Where all are there, scikit-learn is not imported.

    Returns
    -------
    Path
        The folder of the classes.

    Raises
    ------
    UsageError
        The folder cannot be written.
    """
    root = out / "digits"
    if root.is_dir() and len(find_images(root).files) >= DIGITS:
        return root
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    try:
        for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            file = root / str(label) / f"{number:04d}.png"
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                _write(file, pixels.reshape(8, 8))
    except OSError as error:
        raise UsageError(f"the demo cannot be written to {root}: {error.strerror}") from error
    return root


def _write(file: Path, pixels: Any) -> None:
    """Write one digit, float64 of shape (8, 8) with values 0 to 16."""
    from PIL import Image

    small = Image.fromarray((pixels * 255 / 16).round().astype("uint8"))
    handle, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as beside:
            small.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).save(beside, "PNG")
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
