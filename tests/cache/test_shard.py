"""A shard is an ordinary HDF5 file, and readable without HDF5."""

import hashlib
import json
import struct
import zlib

import h5py
import numpy as np
import pytest

from cache import FeatureStore


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("count, dims", [(1, 1), (3, 5), (300, 700)])
def test_plain_h5py_shows_the_same_arrays(tmp_path, recipe_of, rows_of, dtype, count, dims):
    store = FeatureStore.open(tmp_path, recipe_of(dtype))
    rows = rows_of(count, dims, dtype)
    views = np.arange(count) % 4
    path = store.append(rows.keys, rows.features, views)
    with h5py.File(path) as file:
        assert file.userblock_size == 4096
        assert sorted(file) == ["crc", "features", "key", "view"]
        assert np.array_equal(file["features"][:], rows.features)
        assert file["features"].dtype == dtype
        assert np.array_equal(file["key"][:], rows.keys)
        assert np.array_equal(file["view"][:], views)
        assert all(file[name].chunks is None for name in file)
        assert all(file[name].id.get_offset() % 4096 == 0 for name in file)
        assert json.loads(file.attrs["recipe"]) == json.loads(store.recipe.canonical())


def test_the_name_tells_recipe_rows_and_content(store, rows_of):
    rows = rows_of(7)
    path = store.append(rows.keys, rows.features)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f"{store.digest[:8]}-7-{digest[:32]}.h5"


def test_a_shard_is_read_with_struct_and_memmap_alone(store, rows_of):
    rows = rows_of(20, 6)
    path = store.append(rows.keys, rows.features, np.arange(20))
    data = path.read_bytes()
    assert data[:8] == b"\x89HST\r\n\x1a\n"
    assert hashlib.sha256(data[:4064]).digest() == data[4064:4096]
    version, code, count, dims, features_at, key_at, view_at, crc_at, length = struct.unpack_from(
        "<HH4x7Q", data, 8
    )
    assert (version, code, count, dims, length) == (1, 1, 20, 6, len(data))
    assert data[72:104].hex() == store.digest
    features = np.memmap(path, "<f4", "r", features_at, (count, dims))
    assert np.array_equal(features, rows.features)
    assert np.array_equal(np.memmap(path, np.uint8, "r", key_at, (count, 32)), rows.keys)
    views, crcs = (np.memmap(path, "<u4", "r", at, (count,)) for at in (view_at, crc_at))
    assert views.tolist() == list(range(20))
    for row in range(count):
        identity = rows.keys[row].tobytes() + struct.pack("<I", row) + data[72:104]
        assert crcs[row] == zlib.crc32(identity + features[row].tobytes())
    sizes = {
        features_at: count * dims * 4,
        key_at: count * 32,
        view_at: count * 4,
        crc_at: count * 4,
    }
    rest, at = b"", 4096
    for start in sorted(sizes):
        rest, at = rest + data[at:start], start + sizes[start]
    assert hashlib.sha256(rest + data[at:]).digest() == data[104:136]


def test_little_overhead_at_the_usual_width(tmp_path, recipe_of, rows_of):
    store = FeatureStore.open(tmp_path, recipe_of("float16"))
    rows = rows_of(4096, 2048, "float16")
    store.append(rows.keys, rows.features)
    assert store.nbytes < 1.015 * rows.features.nbytes


def test_bytes_do_not_depend_on_the_order_in_memory(store, rows_of):
    rows = rows_of(9)
    path = store.append(rows.keys, rows.features)
    fortran = np.asfortranarray(rows.features)
    assert store.append(np.asfortranarray(rows.keys), fortran) == path
