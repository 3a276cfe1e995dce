"""One ordinary file for people, whole or not there."""

import json
import os
import subprocess
import sys
import tracemalloc

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from cache import CacheError, FeatureStore, MissingRows
from cache.export import Columns, export


@pytest.fixture
def columns(rows_of):
    def make(rows, **others):
        count = len(rows.keys)
        columns = {
            "keys": rows.keys,
            "paths": [f"photos/grün/{i} é.png" for i in range(count)],
            "labels": np.arange(count, dtype=np.int64) % 2,
            "classes": ["grün", "rot"],
            "groups": [f"g{i // 3}" for i in range(count)],
            "split": ["train", "test"] * (count // 2),
            "attributes": {"recipe": '{"size":224}', "made_by": "headstart"},
        }
        return Columns(**(columns | others))

    return make


def filled(tmp_path, recipe_of, rows_of, dtype="float32", count=20, dims=6):
    store = FeatureStore.open(tmp_path, recipe_of(dtype))
    rows = rows_of(count, dims, dtype)
    store.append(rows.keys[: count // 2], rows.features[: count // 2])
    store.append(rows.keys[count // 2 :], rows.features[count // 2 :])
    order = np.random.default_rng(1).permutation(count)
    rows.keys, rows.features = rows.keys[order], rows.features[order]
    return store, rows


dtypes = pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])


@dtypes
def test_h5py_shows_every_column(tmp_path, recipe_of, rows_of, columns, dtype):
    store, rows = filled(tmp_path, recipe_of, rows_of, dtype)
    path = tmp_path / "features.h5"
    assert export(store, columns(rows), path) == path.stat().st_size
    with h5py.File(path) as file:
        assert sorted(file) == ["classes", "features", "groups", "key", "labels", "paths", "split"]
        assert file["features"].dtype == dtype
        assert np.array_equal(file["features"][:], rows.features)
        assert np.array_equal(file["key"][:], rows.keys)
        assert file["labels"].dtype == np.int64
        assert file["classes"].asstr()[:].tolist() == ["grün", "rot"]
        assert file["paths"].asstr()[3] == "photos/grün/3 é.png"
        assert file["groups"].asstr()[4] == "g1"
        assert file["split"].asstr()[1] == "test"
        assert file.attrs["recipe"] == '{"size":224}'
    assert sorted(p.suffix for p in tmp_path.iterdir() if p.is_file()) == [".h5"]


def test_pytables_reads_every_column(tmp_path, recipe_of, rows_of, columns):
    store, rows = filled(tmp_path, recipe_of, rows_of)
    path = tmp_path / "features.h5"
    export(store, columns(rows), path)
    # In a process of its own: PyTables brings an HDF5 library that h5py's may not meet.
    code = """
import json, sys, tables
with tables.open_file(sys.argv[1]) as file:
    root = file.root
    print(json.dumps({
        "names": sorted(node.name for node in file.list_nodes("/")),
        "kinds": sorted({type(node).__name__ for node in file.list_nodes("/")}),
        "sum": float(root.features[:].sum()),
        "labels": root.labels[:].tolist(),
        "path": root.paths[3].decode(),
        "classes": [name.decode() for name in root.classes[:]],
        "recipe": str(root._v_attrs["recipe"]),
    }))
"""
    shown = subprocess.run(
        [sys.executable, "-c", code,
         str(path)], capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    found = json.loads(shown.stdout)
    assert shown.stderr == ""
    assert found["names"] == ["classes", "features", "groups", "key", "labels", "paths", "split"]
    assert found["kinds"] == ["Array"]
    assert found["sum"] == float(rows.features.sum())
    assert found["labels"] == [0, 1] * 10
    assert found["path"] == "photos/grün/3 é.png"
    assert found["classes"] == ["grün", "rot"]
    assert found["recipe"] == '{"size":224}'


def test_the_file_makes_a_pandas_frame(tmp_path, recipe_of, rows_of, columns):
    store, rows = filled(tmp_path, recipe_of, rows_of)
    path = tmp_path / "features.h5"
    export(store, columns(rows), path)
    with h5py.File(path) as file:
        frame = pd.DataFrame(file["features"][:], index=file["paths"].asstr()[:])
        frame["label"] = file["classes"].asstr()[:][file["labels"][:]]
    assert frame.loc["photos/grün/3 é.png", "label"] == "rot"
    assert np.array_equal(frame.iloc[3, :6].to_numpy(np.float32), rows.features[3])


@dtypes
def test_numpy_reads_the_npz_without_pickle(tmp_path, recipe_of, rows_of, columns, dtype):
    store, rows = filled(tmp_path, recipe_of, rows_of, dtype)
    path = tmp_path / "features.npz"
    export(store, columns(rows), path)
    with np.load(path, allow_pickle=False) as found:
        assert np.array_equal(found["features"], rows.features)
        assert found["features"].dtype == dtype
        assert np.array_equal(found["key"], rows.keys)
        assert found["classes"][found["labels"]].tolist() == ["grün", "rot"] * 10
        assert found["paths"][3] == "photos/grün/3 é.png"
        assert str(found["recipe"]) == '{"size":224}'


@dtypes
def test_pandas_reads_the_parquet(tmp_path, recipe_of, rows_of, columns, dtype):
    store, rows = filled(tmp_path, recipe_of, rows_of, dtype)
    path = tmp_path / "features.parquet"
    export(store, columns(rows), path)
    frame = pd.read_parquet(path)
    assert np.array_equal(np.stack(frame["features"]), rows.features)
    assert frame["paths"][3] == "photos/grün/3 é.png"
    assert frame["key"][3] == rows.keys[3].tobytes()
    metadata = pyarrow.parquet.read_schema(path).metadata
    assert json.loads(metadata[b"classes"]) == ["grün", "rot"]
    assert metadata[b"recipe"] == b'{"size":224}'


@pytest.mark.parametrize("suffix", ["h5", "npz", "parquet"])
def test_columns_that_a_data_set_has_not_are_not_there(
    tmp_path, recipe_of, rows_of, columns, suffix
):
    store, rows = filled(tmp_path, recipe_of, rows_of)
    path = tmp_path / f"features.{suffix}"
    bare = columns(rows, labels=None, classes=None, groups=None, split=None)
    export(store, bare, path)
    if suffix == "h5":
        with h5py.File(path) as file:
            assert sorted(file) == ["features", "key", "paths"]
    elif suffix == "npz":
        with np.load(path) as found:
            assert sorted(found) == ["features", "key", "made_by", "paths", "recipe"]
    else:
        assert pd.read_parquet(path).columns.tolist() == ["features", "key", "paths"]


def test_odd_texts_are_escaped_and_empty_ones_kept(tmp_path, recipe_of, rows_of, columns):
    store, rows = filled(tmp_path, recipe_of, rows_of, count=2)
    odd = columns(rows, paths=["a\udcffb", ""], groups=["", ""])
    for suffix in ("h5", "npz", "parquet"):
        export(store, odd, tmp_path / f"f.{suffix}")
    with h5py.File(tmp_path / "f.h5") as file:
        assert file["paths"].asstr()[:].tolist() == ["a\\udcffb", ""]
        assert file["groups"].asstr()[:].tolist() == ["", ""]


def test_another_suffix_and_a_missing_library_are_told(
    tmp_path, recipe_of, rows_of, columns, monkeypatch
):
    store, rows = filled(tmp_path, recipe_of, rows_of)
    with pytest.raises(CacheError, match=r"\.h5, \.hdf5, \.npz, \.parquet"):
        export(store, columns(rows), tmp_path / "features.csv")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(CacheError, match=r"pip install 'headstart\[parquet\]'"):
        export(store, columns(rows), tmp_path / "features.parquet")


@pytest.mark.parametrize("suffix", ["h5", "npz", "parquet"])
@pytest.mark.parametrize("call", ["fsync", "replace", "read"])
def test_a_failure_leaves_the_old_file_and_no_other(
    tmp_path, recipe_of, rows_of, columns, monkeypatch, suffix, call
):
    store, rows = filled(tmp_path / "out", recipe_of, rows_of)
    path = tmp_path / f"features.{suffix}"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    if call == "read":
        with pytest.raises(MissingRows):
            export(store, columns(rows_of(20, 6, seed=5)), path)
    else:
        owner = os if call == "fsync" else type(path)
        monkeypatch.setattr(owner, call, fail)
        with pytest.raises(CacheError, match="No space left"):
            export(store, columns(rows), path)
        monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, "out"]
    export(store, columns(rows), path)
    assert path.read_bytes() != b"old"


@pytest.mark.parametrize("suffix", ["h5", "npz", "parquet"])
def test_a_full_disk_is_told(tmp_path, recipe_of, rows_of, columns, python, suffix):
    store, _ = filled(tmp_path / "out", recipe_of, rows_of, count=200, dims=1000)
    path = tmp_path / f"features.{suffix}"
    code = f"""
import resource
import numpy as np
from cache import CacheError, FeatureStore
from cache.export import Columns, export
store = FeatureStore.at(Path({str(store.folder)!r}))
keys = np.concatenate([block.keys for block in store.blocks()])
columns = Columns(keys, ["p"] * len(keys), None, None, None, None, {{}})
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
try:
    export(store, columns, Path({str(path)!r}))
except CacheError as error:
    print(error)
"""
    said, errors = python(code).communicate(timeout=60)
    assert "File too large" in said, errors
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("suffix", ["h5", "npz", "parquet"])
def test_memory_does_not_grow_with_the_rows(
    tmp_path, recipe_of, rows_of, columns, monkeypatch, suffix
):
    monkeypatch.setattr("cache.export._AT_ONCE", 1 << 20)
    store, rows = filled(tmp_path, recipe_of, rows_of, count=8000, dims=1000)
    keys = rows.keys
    del rows
    bare = Columns(keys, ["p"] * 8000, None, None, None, None, {})
    pool_before = pyarrow.total_allocated_bytes()
    tracemalloc.start()
    try:
        export(store, bare, tmp_path / f"features.{suffix}")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12_000_000, "of 32 MB of features"
    assert pyarrow.total_allocated_bytes() - pool_before < 12_000_000
