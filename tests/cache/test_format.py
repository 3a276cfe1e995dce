"""Format version 1 is what `cache/README.md` says, is read for ever, and a newer one is refused."""

import hashlib
import importlib.util
import json
import re
import struct
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cache import CacheError, FeatureStore, RecipeError
from cache.folder import Folder, load_recipe
from cache.header import BLOCK, pack, parse
from cache.shard import rest_digest

GOLDEN = Path(__file__).parent / "golden"
spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)


@pytest.fixture(params=sorted(GOLDEN.glob("version-*.zip")), ids=lambda path: path.stem)
def golden(request, tmp_path):
    """The stores of one version by dtype, as somebody left them."""
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(tmp_path)
    recipes = {p: json.loads(p.read_bytes())["recipe"]["dtype"] for p in tmp_path.glob("*/*.json")}
    return {dtype: path.parent for path, dtype in recipes.items()}


@pytest.mark.parametrize("dtype", make.DTYPES)
def test_golden_stores_are_read(golden, dtype):
    keys, features, views = make.rows_of(dtype)
    store = FeatureStore.at(golden[dtype])
    assert store.verify() == []
    assert (store.rows, store.shards, store.dims) == (make.ROWS, 2, make.DIMS)
    found = store.read(keys, views)
    assert found.dtype == dtype
    assert np.array_equal(found, features)
    assert store.recipe == make.recipe_of(dtype)
    assert FeatureStore.open(store.folder.parent, make.recipe_of(dtype)).rows == make.ROWS


# A reader by the page alone: no code of ours, no HDF5.


def read_store(folder):
    """Rows by (key, view)."""
    whole = json.loads((folder / "recipe.json").read_bytes())
    assert whole["recipe"]["version"] == 1
    canonical = json.dumps(whole["recipe"], sort_keys=True, separators=(",", ":")).encode("ascii")
    assert hashlib.sha256(canonical).hexdigest() == whole["digest"]
    rows = {}
    for path in sorted((folder / "shards").glob("*.h5"), reverse=True):
        rows |= read_shard(path, bytes.fromhex(whole["digest"]))
    return rows


def read_shard(path, recipe):
    data = path.read_bytes()
    version, code, zero, count, dims, features_at, key_at, view_at, crc_at, length = (
        struct.unpack_from("<HHIQQQQQQQ", data, 8)
    )
    assert data[:8] == bytes.fromhex("894853540D0A1A0A")
    assert (version, zero, length) == (1, 0, len(data))
    assert hashlib.sha256(data[:4064]).digest() == data[4064:4096]
    assert data[72:104] == recipe
    assert set(data[136:4064]) == {0}
    name = re.fullmatch(r"([0-9a-f]{8})-([0-9]+)-([0-9a-f]{32})\.h5", path.name)
    assert name.groups() == (recipe.hex()[:8], str(count), hashlib.sha256(data).hexdigest()[:32])
    dtype = {1: "<f4", 2: "<f2", 3: "u1"}[code]
    features = np.memmap(path, dtype, "r", features_at, (count, dims))
    keys = np.memmap(path, "u1", "r", key_at, (count, 32))
    views, crcs = (np.memmap(path, "<u4", "r", at, (count,)) for at in (view_at, crc_at))
    extents = sorted(
        (array.offset, array.offset + array.nbytes) for array in (features, keys, views, crcs)
    )
    rest = b"".join(data[a[1] : b[0]] for a, b in zip([(0, 4096), *extents], [*extents, (None,)],
                                                      strict=True))  # fmt: skip
    assert hashlib.sha256(rest).digest() == data[104:136]
    assert all(start % 4096 == 0 for start, _ in extents)
    rows = {}
    for key, view, crc, row in reversed(list(zip(keys, views, crcs, features, strict=True))):
        identity = key.tobytes() + struct.pack("<I", view) + recipe
        assert zlib.crc32(identity + row.tobytes()) == crc
        rows[key.tobytes(), int(view)] = np.array(row)
    return rows


@pytest.mark.parametrize("dtype", make.DTYPES)
def test_the_page_is_enough_to_write_a_reader(golden, dtype):
    keys, features, views = make.rows_of(dtype)
    found = read_store(golden[dtype])
    assert len(found) == make.ROWS
    for key, row, view in zip(keys, features, views, strict=True):
        assert np.array_equal(found[key.tobytes(), int(view)], row)


def test_what_is_written_today_is_read_by_the_page_too(store, rows_of):
    rows = rows_of(30, 9)
    store.append(rows.keys[:20], rows.features[:20])
    store.append(rows.keys[10:], rows.features[10:])
    found = read_store(store.folder)
    assert len(found) == 30
    assert all(
        np.array_equal(found[k.tobytes(), 0], r) for k, r in zip(*vars(rows).values(), strict=True)
    )


def test_the_page_has_every_field_of_the_header_where_it_is(store, rows_of):
    page = (Path(__file__).parents[2] / "cache" / "README.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (\d+) \| (\d+) \| ", page, re.MULTILINE)
    fields = [(int(at), int(size)) for at, size in table]
    assert [at for at, _ in fields] == list(np.cumsum([0, *(size for _, size in fields)])[:-1])
    assert sum(size for _, size in fields) == BLOCK


def test_a_store_of_a_newer_version_is_refused_and_told_so(store, rows_of):
    rows = rows_of(3)
    store.append(rows.keys, rows.features)
    whole = json.loads((store.folder / "recipe.json").read_bytes())
    whole["recipe"]["version"] = 2
    (store.folder / "recipe.json").write_text(json.dumps(whole))
    for read in (FeatureStore.at, lambda folder: load_recipe(Folder(folder))):
        with pytest.raises(RecipeError, match=r"has format 2 .* use the newer version") as caught:
            read(store.folder)
        assert str(store.folder) in str(caught.value)
    with pytest.raises(CacheError, match="use the newer version"):
        FeatureStore.open(store.folder.parent, store.recipe)


def test_a_shard_of_a_newer_version_is_refused_and_told_so(store, rows_of):
    rows = rows_of(3)
    path = store.append(rows.keys, rows.features)
    data = bytearray(path.read_bytes())
    data[8:10] = struct.pack("<H", 2)
    data[4064:4096] = hashlib.sha256(data[:4064]).digest()
    path.write_bytes(data)
    (finding,) = FeatureStore.at(store.folder).verify()
    assert "written in format 2" in finding.problem
    assert "use the newer version" in finding.problem
    with path.open("r+b") as file:  # the checks of a header of today are in their places
        data[8:10] = struct.pack("<H", 1)
        data[4064:4096] = hashlib.sha256(data[:4064]).digest()
        file.write(data)
        header = parse(bytes(data[:BLOCK]))
        assert pack(replace(header, rest=rest_digest(file.fileno(), header))) == data[:BLOCK]
