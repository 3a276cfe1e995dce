"""What is not a good shard is never read as one, and its rows are computed again."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from cache import FeatureStore
from cache.header import BLOCK
from cache.shard import open_shard


@pytest.fixture
def shards(store, rows_of):
    """Two shards of five rows each, and their rows."""
    rows = rows_of(10, 2000)
    good = store.append(rows.keys[:5], rows.features[:5])
    bad = store.append(rows.keys[5:], rows.features[5:])
    return rows, good, bad


def assert_found_and_healed(folder, rows, *, lost=(5, 6, 7, 8, 9)):
    store = FeatureStore.at(folder)
    (finding,) = store.check()
    assert finding.moved_to.parent == folder / "quarantine"
    assert store.missing(rows.keys).tolist() == list(lost)
    assert np.array_equal(store.read(rows.keys[:5]), rows.features[:5])
    store.append(rows.keys[list(lost)], rows.features[list(lost)])
    again = FeatureStore.at(folder)
    assert again.check() == []
    assert np.array_equal(again.read(rows.keys), rows.features)
    assert os.path.lexists(finding.moved_to)
    return finding


def test_any_flipped_byte_is_found(store, shards):
    rows, _, bad = shards
    data = bad.read_bytes()
    header = open_shard(bad, store.recipe).header
    edges = [edge for extent in header.extents for edge in extent]
    near = {edge + step for edge in edges for step in (-1, 0)} & set(range(len(data)))
    picked = np.random.default_rng(0).integers(0, len(data), 40).tolist()
    shutil.rmtree(store.folder / "quarantine")
    (store.folder / "quarantine").mkdir()
    for at in sorted({0, 8, 100, BLOCK - 1, *near, *picked}):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        bad.write_bytes(damaged)
        assert_found_and_healed(store.folder, rows)


@pytest.mark.parametrize("keep", [0, 1, 4095, 4096, 40_000, -4096, -1])
def test_a_cut_off_shard_is_found_when_opened(store, shards, keep):
    rows, _, bad = shards
    os.truncate(bad, keep % bad.stat().st_size if keep < 0 else keep)
    assert FeatureStore.at(store.folder).missing(rows.keys).tolist() == [5, 6, 7, 8, 9]
    assert "cut off" in assert_found_and_healed(store.folder, rows).problem


def test_a_shard_that_grew_is_found_when_opened(store, shards):
    rows, _, bad = shards
    with bad.open("ab") as file:
        file.write(b"\0" * 4096)
    assert FeatureStore.at(store.folder).rows == 5
    assert_found_and_healed(store.folder, rows)


def test_zeroed_and_doubled_pages_are_found(store, shards):
    rows, _, bad = shards
    data = bad.read_bytes()
    for page in range(len(data) // BLOCK):
        for content in (bytes(BLOCK), data[(page - 1) * BLOCK :][:BLOCK]):
            damaged = bytearray(data)
            damaged[page * BLOCK : (page + 1) * BLOCK] = content.ljust(BLOCK, b"\1")
            if damaged != data:
                bad.write_bytes(damaged)
                assert_found_and_healed(store.folder, rows)


def test_rows_of_another_recipe_are_not_taken(tmp_path, recipe_of, store, shards, rows_of):
    rows, _, bad = shards
    other = FeatureStore.open(tmp_path, recipe_of(pooling="max"))
    foreign = other.append(rows.keys[5:], rows.features[5:])
    bad.unlink()
    shutil.copy(foreign, bad.parent)
    assert "another recipe" in assert_found_and_healed(store.folder, rows).problem
    shutil.copy(foreign, bad.with_name(bad.name[:8] + foreign.name[8:]))
    FeatureStore.at(store.folder).check()
    assert np.array_equal(FeatureStore.at(store.folder).read(rows.keys), rows.features)


@pytest.mark.parametrize("name", ["copy.h5", "{0}-6-{2}.h5", "00000000-5-{2}.h5", "{0}-5-{3}.h5"])
def test_a_renamed_shard_is_found(store, shards, name):
    rows, _, bad = shards
    recipe, count, digest = bad.stem.split("-")
    bad.rename(bad.with_name(name.format(recipe, count, digest, digest[::-1])))
    assert_found_and_healed(store.folder, rows)


def test_two_shards_that_swapped_names_are_found(store, shards):
    rows, good, bad = shards
    aside = good.with_name("aside")
    good.rename(aside)
    bad.rename(good)
    aside.rename(bad)
    again = FeatureStore.at(store.folder)
    assert len(again.check()) == 2
    assert len(again.missing(rows.keys)) == 10


def _symlink(path, elsewhere):
    path.symlink_to(elsewhere)


def _dangling(path, elsewhere):
    path.symlink_to("/nowhere")


def _fifo(path, elsewhere):
    os.mkfifo(path)


def _folder(path, elsewhere):
    path.mkdir()


def _socket(path, elsewhere):
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # paths of sockets are short
        server.bind(path.name)
        os.chdir(here)


@pytest.mark.parametrize("make", [_symlink, _dangling, _fifo, _folder, _socket])
def test_what_is_no_file_is_neither_followed_nor_waited_for(store, shards, tmp_path, make):
    rows, _, bad = shards
    elsewhere = tmp_path / bad.name
    bad.rename(elsewhere)
    make(bad, elsewhere)
    assert FeatureStore.at(store.folder).missing(rows.keys).tolist() == [5, 6, 7, 8, 9]
    assert_found_and_healed(store.folder, rows)
    assert elsewhere.exists()


@pytest.mark.parametrize("make", [_symlink, _fifo, _folder])
def test_what_is_in_the_way_of_a_commit_is_put_aside(store, shards, tmp_path, make):
    rows, _, bad = shards
    elsewhere = tmp_path / bad.name
    bad.rename(elsewhere)
    make(bad, elsewhere)
    assert store.append(rows.keys[5:], rows.features[5:]) == bad
    assert bad.is_file()
    assert not bad.is_symlink()
    assert len(list((store.folder / "quarantine").iterdir())) == 1
    assert np.array_equal(FeatureStore.at(store.folder).read(rows.keys), rows.features)


def test_a_recomputed_shard_replaces_the_damaged_one_of_its_name(store, shards):
    rows, _, bad = shards
    bad.write_bytes(bad.read_bytes()[:-1] + b"\xff")
    assert store.append(rows.keys[5:], rows.features[5:]) == bad
    assert FeatureStore.at(store.folder).check() == []
    assert len(list((store.folder / "quarantine").iterdir())) == 1


def test_keys_in_a_hole_are_refused(store, shards):
    rows, _, bad = shards
    header = open_shard(bad, store.recipe).header
    data = bad.read_bytes()
    with bad.open("wb") as file:
        file.write(data[: header.key_at])
        file.seek(header.key_at + BLOCK)
        file.write(data[header.key_at + BLOCK :])
    assert FeatureStore.at(store.folder).missing(rows.keys).tolist() == [5, 6, 7, 8, 9]


def test_rows_of_another_width_are_not_mixed_in(store, shards, tmp_path, recipe, rows_of):
    narrow = rows_of(3, 4, seed=1)
    other = FeatureStore.open(tmp_path / "other", recipe)
    shutil.copy(other.append(narrow.keys, narrow.features), store.folder / "shards")
    again = FeatureStore.at(store.folder)
    assert again.dims == 2000
    assert again.rows == 10
    (finding,) = again.check()
    assert finding.problem == "rows of 4 numbers, while others have 2000"


def test_what_passed_is_not_read_again_until_it_changes(store, shards):
    rows, good, bad = shards
    assert FeatureStore.at(store.folder).check() == []
    remembered = (store.folder / "checked.json").read_bytes()
    os.utime(good, ns=(0, 0))
    assert FeatureStore.at(store.folder).check() == []
    assert (store.folder / "checked.json").read_bytes() != remembered
    damaged = bytearray(bad.read_bytes())
    damaged[-1] ^= 1
    bad.write_bytes(damaged)
    assert_found_and_healed(store.folder, rows)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"a": 3}', b"[" * 100_000, b"\xff"])
def test_a_damaged_memory_of_checks_is_no_memory(store, shards, text):
    (store.folder / "checked.json").write_bytes(text)
    again = FeatureStore.at(store.folder)
    assert again.check() == []
    assert again.rows == 10
