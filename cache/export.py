"""One ordinary file for people: features with labels, paths and the rest, as HDF5, npz or Parquet.

Written beside and renamed, so that it is whole or not there. Features go through in pieces: memory
does not grow with the number of rows.
"""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cache.atomic import fsync_folder, unique_name
from cache.errors import CacheError, told_as
from cache.store import FeatureStore
from cache.writer import hdf5_on

_AT_ONCE = 16 << 20


@dataclass(frozen=True, slots=True)
class Columns:
    """What is known of each row to export; all are aligned with `keys`.

    Attributes
    ----------
    keys
        uint8 ``(n, 32)``: the rows, in this order.
    paths
        Where each image is.
    labels, classes
        int64 ``(n,)``, positions in the names of the classes; None for both where there are none.
    groups, split
        Names, or None.
    attributes
        Facts about all of them, as text.
    """

    keys: NDArray[np.uint8]
    paths: Sequence[str]
    labels: NDArray[np.int64] | None
    classes: Sequence[str] | None
    groups: Sequence[str] | None
    split: Sequence[str] | None
    attributes: Mapping[str, str]

    def texts(self) -> dict[str, Sequence[str]]:
        """Return the columns of text that there are, by name."""
        columns = {"paths": self.paths, "groups": self.groups, "split": self.split}
        return {name: column for name, column in columns.items() if column is not None}


Write: TypeAlias = Callable[[int, FeatureStore, Columns], None]


def check_suffix(file: Path) -> Write:
    """Return what writes a file of that name: ``.h5``, ``.hdf5``, ``.npz`` or ``.parquet``.

    Raises
    ------
    CacheError
        Another suffix, or one whose library is not installed.
    """
    suffix = file.suffix.lower()
    if suffix not in _WRITERS:
        raise CacheError(f"{file}: give it one of the suffixes {', '.join(_WRITERS)}")
    if suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            hint = "pip install 'headstart[parquet]'"
            raise CacheError(f"writing {file} needs pyarrow, which is missing: {hint}") from None
    return _WRITERS[suffix]


def export(store: FeatureStore, columns: Columns, file: Path) -> int:
    """Write rows with what is known of them to one file; what is there already is replaced.

    Returns
    -------
    int
        Bytes of the file.

    Raises
    ------
    MissingRows
        Some of the rows are not in the store.
    CacheError
        Another suffix, a library that is missing, or the file cannot be written: it is then as it
        was before.
    """
    write = check_suffix(file)
    beside = file.with_name(unique_name())
    with told_as(f"write {file}"):
        try:
            fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                write(fd, store, columns)
                os.fsync(fd)
                size = os.fstat(fd).st_size
            finally:
                os.close(fd)
            beside.replace(file)
            fsync_folder(file.parent)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
    return size


def _pieces(store: FeatureStore, columns: Columns) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Read the rows, about 16 MiB at a time."""
    step = max(1, _AT_ONCE // (np.dtype(store.recipe.dtype).itemsize * (store.dims or 1)))
    for low in range(0, len(columns.keys), step):
        part = slice(low, min(low + step, len(columns.keys)))
        yield part, store.read(columns.keys[part])


def _shape(store: FeatureStore, columns: Columns) -> tuple[int, int]:
    return len(columns.keys), store.dims or 0


def _write_hdf5(fd: int, store: FeatureStore, columns: Columns) -> None:
    """Write a dataset a column; texts are of fixed length, as PyTables reads no others."""
    with hdf5_on(fd) as file:
        file.attrs.update(columns.attributes)
        dtype = np.dtype(store.recipe.dtype)
        features = file.create_dataset("features", _shape(store, columns), dtype)
        for part, rows in _pieces(store, columns):
            features[part] = rows
        file["key"] = columns.keys
        if columns.labels is not None and columns.classes is not None:
            file["labels"] = columns.labels
            _write_text(file, "classes", columns.classes)
        for name, texts in columns.texts().items():
            _write_text(file, name, texts)


def _write_text(file: Any, name: str, texts: Sequence[str]) -> None:
    import h5py

    encoded = np.array([_utf8(text) for text in texts], "S")
    kind = h5py.string_dtype("utf-8", max(1, encoded.dtype.itemsize))
    file.create_dataset(name, data=encoded.astype(kind), dtype=kind)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _write_npz(fd: int, store: FeatureStore, columns: Columns) -> None:
    """Write what `numpy.savez` would, the features piece by piece, and no pickle."""
    small: dict[str, NDArray[Any]] = {"key": columns.keys}
    if columns.labels is not None and columns.classes is not None:
        small |= {"labels": columns.labels, "classes": _unicode(columns.classes)}
    small |= {name: _unicode(texts) for name, texts in columns.texts().items()}
    small |= {name: np.array(text) for name, text in columns.attributes.items()}
    with (
        os.fdopen(os.dup(fd), "wb") as target,
        zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive,
    ):
        with archive.open("features.npy", "w", force_zip64=True) as member:
            header = {
                "descr": np.dtype(store.recipe.dtype).newbyteorder("<").str,
                "fortran_order": False,
                "shape": _shape(store, columns),
            }
            np.lib.format.write_array_header_1_0(member, header)
            for _, rows in _pieces(store, columns):
                member.write(np.ascontiguousarray(rows).data.cast("B"))
        for name, array in small.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _unicode(texts: Sequence[str]) -> NDArray[np.str_]:
    return np.array([_utf8(text).decode("utf-8") for text in texts], "U")


def _write_parquet(fd: int, store: FeatureStore, columns: Columns) -> None:
    """One row group a piece; classes and attributes in the metadata of the schema."""
    import pyarrow
    import pyarrow.parquet

    rows = pyarrow.list_(pyarrow.from_numpy_dtype(np.dtype(store.recipe.dtype)), store.dims or 0)
    fields = [("features", rows), ("key", pyarrow.binary(32))]
    facts = dict(columns.attributes)
    if columns.labels is not None and columns.classes is not None:
        fields.append(("labels", pyarrow.int64()))
        facts["classes"] = json.dumps(list(columns.classes))
    fields += [(name, pyarrow.string()) for name in columns.texts()]
    schema = pyarrow.schema(fields).with_metadata(facts)
    with (
        os.fdopen(os.dup(fd), "wb") as target,
        pyarrow.parquet.ParquetWriter(target, schema) as writer,
    ):
        for part, features in _pieces(store, columns):
            arrays = {
                "features": pyarrow.FixedSizeListArray.from_arrays(
                    pyarrow.array(np.ascontiguousarray(features).reshape(-1)), features.shape[1]
                ),
                "key": pyarrow.array([key.tobytes() for key in columns.keys[part]], fields[1][1]),
            }
            if columns.labels is not None:
                arrays["labels"] = pyarrow.array(columns.labels[part])
            for name, texts in columns.texts().items():
                arrays[name] = pyarrow.array([_utf8(text).decode("utf-8") for text in texts[part]])
            writer.write_table(pyarrow.table(arrays, schema=schema))


_WRITERS: dict[str, Write] = {
    ".h5": _write_hdf5,
    ".hdf5": _write_hdf5,
    ".npz": _write_npz,
    ".parquet": _write_parquet,
}
