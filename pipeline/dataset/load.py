"""From the word a user gives as DATA to a dataset."""

from __future__ import annotations

import difflib
from pathlib import Path

from pipeline.config import DEMO
from pipeline.dataset.base import Dataset
from pipeline.dataset.digits import render_digits
from pipeline.dataset.folder import load_folder
from pipeline.dataset.table import TABLE_SUFFIXES, load_table
from pipeline.errors import UsageError
from pipeline.text import plural


def load_dataset(data: str, out: Path) -> Dataset:
    """List the images of a dataset.

    Parameters
    ----------
    data
        A folder, a CSV or Parquet file, or the word ``digits`` for the built-in demo.
    out
        Where the program writes. The demo is rendered there once, and where it lies inside of
        the data it is no part of them.

    Raises
    ------
    UsageError
        There is no such thing, it cannot be read, or it holds no usable image.
    """
    if not data.strip():
        raise UsageError("DATA is empty: name a folder, a CSV or Parquet file, or digits")
    if data == DEMO:
        dataset = load_folder(render_digits(out), out=None)
    else:
        path = Path(data)
        if path.is_dir():
            dataset = load_folder(path, out=out)
        elif path.suffix.lower() in TABLE_SUFFIXES and path.exists():
            dataset = load_table(path)
        else:
            raise UsageError(_not_data(path))
    if not dataset.paths:
        raise UsageError(_no_images(data, dataset))
    return dataset


def _not_data(path: Path) -> str:
    if path.exists():
        kinds = "a folder of images, a CSV or Parquet file, or the word digits"
        return f"{path} is not usable as DATA: give {kinds}"
    try:
        siblings = [p.name for p in path.parent.iterdir()]
    except OSError:
        return f"there is no {path}, and no folder {path.parent} that it could lie in"
    near = difflib.get_close_matches(path.name, [*siblings, "digits"], n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"there is no {path}{hint}"


def _no_images(data: str, dataset: Dataset) -> str:
    if not dataset.rejects:
        return f"{data} holds no images ({plural(dataset.ignored, 'other file')} ignored)"
    first = dataset.rejects[0]
    count = len(dataset.rejects)
    return f"{data} holds no usable image: {count} rejected, such as {first.path}, {first.reason}"
