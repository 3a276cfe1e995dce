"""A dataset from a table: a CSV or Parquet file with a path and, if known, a label a row."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from pipeline.dataset.base import SPLITS, Dataset, Split
from pipeline.errors import UsageError
from pipeline.images.find import unusable
from pipeline.images.rejects import Reject

TABLE_SUFFIXES = frozenset({".csv", ".parquet", ".pq"})
"""Suffixes, in lower case, of the files that are read as tables."""

_OPTIONAL = ("label", "group", "split")

_Row: TypeAlias = tuple[str, dict[str, str]]  # where it stands, for messages, and its values


def load_table(file: Path) -> Dataset:
    """List the images of a CSV or Parquet file.

    Column ``path`` is needed (relative paths are relative to the file); ``label``, ``group`` and
    ``split`` are read where they are there. Other columns are not looked at. A path that leads to
    no usable file is a reject and stops nothing.

    Raises
    ------
    UsageError
        The file cannot be read, has no column ``path``, or a row lacks a value.
    """
    columns, rows = _read_csv(file) if file.suffix.lower() == ".csv" else _read_parquet(file)
    if "path" not in columns:
        there = ", ".join(columns) or "none"
        raise UsageError(f"{file} has no column 'path'; its columns are: {there}")
    used = [name for name in _OPTIONAL if name in columns]
    paths: list[Path] = []
    values: dict[str, list[str]] = {name: [] for name in used}
    splits: list[Split] = []
    rejects: list[Reject] = []
    for where, row in rows:
        path = _path(file, where, row)
        found = {name: _value(file, where, row, name) for name in used}
        split = _split(file, where, found["split"]) if "split" in used else None
        reject = unusable(os.fspath(path))
        if reject is not None:
            rejects.append(reject)
            continue
        paths.append(path)
        for name in used:
            values[name].append(found[name])
        if split is not None:
            splits.append(split)
    return Dataset(
        name=file.stem,
        paths=tuple(paths),
        labels=tuple(values["label"]) if "label" in used else None,
        groups=tuple(values["group"]) if "group" in used else None,
        splits=tuple(splits) if "split" in used else None,
        rejects=tuple(rejects),
    )


def _path(file: Path, where: str, row: dict[str, str]) -> Path:
    text = _value(file, where, row, "path")
    if "\0" in text:
        raise UsageError(f"{file}, {where}: the path contains a NUL character")
    return file.parent / text


def _value(file: Path, where: str, row: dict[str, str], name: str) -> str:
    value = row.get(name, "")
    if not value.strip():
        raise UsageError(f"{file}, {where}: no {name}; every row needs one where there is a column")
    return value if name == "path" else value.strip()


def _split(file: Path, where: str, value: str) -> Split:
    split = SPLITS.get(value.lower())
    if split is None:
        raise UsageError(f"{file}, {where}: split {value!r} is none of train, val and test")
    return split


def _read_csv(file: Path) -> tuple[list[str], Iterator[_Row]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, strict=True)
            columns = [name.strip() for name in next(reader, [])]
            rows = [(f"line {reader.line_num}", row) for row in reader if row]
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 ({error.reason}): save it as UTF-8") from error
    except csv.Error as error:
        raise UsageError(f"{file}, line {reader.line_num}: not valid CSV: {error}") from error
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    return columns, ((where, dict(zip(columns, row, strict=False))) for where, row in rows)


def _read_parquet(file: Path) -> tuple[list[str], Iterator[_Row]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        hint = "pip install 'headstart[parquet]'"
        raise UsageError(f"reading {file} needs pyarrow, which is not installed: {hint}") from None
    try:
        columns: list[str] = list(pyarrow.parquet.read_schema(file).names)
        wanted = [name for name in ("path", *_OPTIONAL) if name in columns]
        # A file object: given a path, the reader would take `key=value` folders for columns.
        with file.open("rb") as handle:
            rows = pyarrow.parquet.read_table(handle, columns=wanted).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise UsageError(f"{file} cannot be read as Parquet: {error}") from error
    return columns, (
        (f"row {n}", {name: _cell(value) for name, value in row.items()})
        for n, row in enumerate(rows, start=1)
    )


def _cell(value: Any) -> str:
    """Make text of a cell: labels are names, even where they were stored as numbers."""
    if value is None or value != value:  # NaN is how pandas says missing
        return ""
    return os.fsdecode(value) if isinstance(value, bytes) else str(value)
