"""Compaction loses no row, copies no damaged one, and readers do not notice."""

import os
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cache import CacheError, FeatureStore, MissingRows, rewrite
from cache.compaction import compact, drop_rows, exclusive

TARGET = 40_000  # of rows of 100 float32: a hundred rows


def fill(store, rows, step=10):
    return [
        store.append(rows.keys[i : i + step], rows.features[i : i + step])
        for i in range(0, len(rows.keys), step)
    ]


def assert_all_there(folder, rows):
    again = FeatureStore.at(folder)
    assert again.verify() == []
    assert np.array_equal(again.read(rows.keys), rows.features)
    assert again.rows == len(rows.keys)
    return again


@pytest.fixture
def filled(store, rows_of):
    """A store of 40 shards of 10 rows, and its rows."""
    rows = rows_of(400, 100)
    fill(store, rows)
    return store, rows


def test_many_small_shards_become_few(filled):
    store, rows = filled
    done = compact(store.folder, target_bytes=TARGET)
    assert (done.shards_before, done.shards_after, done.dropped) == (40, 4, 0)
    assert done.bytes_after < done.bytes_before == store.nbytes
    assert done.findings == ()
    again = assert_all_there(store.folder, rows)
    assert again.shards == 4
    assert again.nbytes == done.bytes_after
    assert sorted(p.name for p in (store.folder / "tmp").iterdir()) == []


def test_rows_written_together_stay_together(filled):
    store, rows = filled
    compact(store.folder, target_bytes=TARGET)
    run = FeatureStore.at(store.folder).read(rows.keys[:100])
    assert not run.flags.owndata, "one run of one shard, mapped"


def test_a_second_compaction_does_nothing(filled):
    store, rows = filled
    store.append(rows.keys[:3], rows.features[:3] + 1)
    compact(store.folder, target_bytes=TARGET)
    before = {p.name: p.stat() for p in (store.folder / "shards").iterdir()}
    compact(store.folder, target_bytes=TARGET)
    assert {p.name: p.stat() for p in (store.folder / "shards").iterdir()} == before


def test_what_is_large_enough_is_left_alone(store, rows_of):
    rows = rows_of(180, 100)
    large = [
        store.append(rows.keys[i : i + 60], rows.features[i : i + 60]).stat() for i in (0, 60, 120)
    ]
    done = compact(store.folder, target_bytes=TARGET)
    assert done.shards_after == 3
    assert {p.stat().st_ino for p in (store.folder / "shards").iterdir()} == {
        s.st_ino for s in large
    }


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_views_and_dtypes_are_kept(tmp_path, recipe_of, rows_of, dtype):
    store = FeatureStore.open(tmp_path, recipe_of(dtype))
    rows = rows_of(30, 7, dtype)
    views = np.arange(30, dtype=np.uint32) % 3
    keys = np.repeat(rows.keys[:10], 3, axis=0)
    for i in range(0, 30, 5):
        store.append(keys[i : i + 5], rows.features[i : i + 5], views[i : i + 5])
    assert compact(store.folder).shards_after == 1
    again = FeatureStore.at(store.folder)
    assert np.array_equal(again.read(keys, views), rows.features)


def test_of_doubles_the_row_that_was_read_is_kept_once(store, rows_of):
    rows = rows_of(30)
    for i in range(0, 30, 5):
        store.append(rows.keys[:10], rows.features[:10] + i)
    before = store.read(rows.keys[:10]).copy()
    done = compact(store.folder)
    again = FeatureStore.at(store.folder)
    assert np.array_equal(again.read(rows.keys[:10]), before)
    assert done.shards_after == 1
    assert sum(len(block.keys) for block in again.blocks()) == 10
    assert again.rows == 10


class Crash(BaseException):
    """The process ends here: no later call of the system does anything."""


def crashing(monkeypatch, after):
    """From the given call of the system on, every one fails; returns the calls made."""
    calls = []

    def wrap(module, name):
        real = getattr(module, name)

        def call(*args, **options):
            calls.append(name)
            if len(calls) > after:
                raise Crash
            return real(*args, **options)

        monkeypatch.setattr(module, name, call)

    for name in ("link", "fsync", "pwrite", "ftruncate"):
        wrap(os, name)
    for name in ("unlink", "rename", "replace"):
        wrap(Path, name)
    return calls


def test_a_crash_at_any_call_of_the_system_loses_no_row(tmp_path, recipe, rows_of):
    rows = rows_of(24, 100)
    after, crashed = 0, True
    while crashed:
        store = FeatureStore.open(tmp_path / str(after), recipe)
        fill(store, rows, 4)
        with pytest.MonkeyPatch.context() as patched:
            calls = crashing(patched, after)
            try:
                compact(store.folder, target_bytes=TARGET // 8)
                crashed = False
            except Crash:
                pass
        assert_all_there(store.folder, rows)
        assert np.array_equal(store.read(rows.keys), rows.features), "the reader that was open"
        compact(store.folder, target_bytes=TARGET // 8)
        # One that was merged and not yet removed may be left: doubles, which are harmless.
        assert assert_all_there(store.folder, rows).shards <= 3
        after += 1
    assert {"link", "fsync", "unlink"} <= set(calls)
    assert after > 20


def test_an_open_reader_goes_on_with_read(filled):
    store, rows = filled
    reader = FeatureStore.at(store.folder)
    assert reader.rows == 400
    compact(store.folder, target_bytes=TARGET)
    order = np.random.default_rng(0).permutation(400)
    assert np.array_equal(reader.read(rows.keys[order]), rows.features[order])
    assert len(reader.missing(rows.keys)) == 0


@pytest.mark.parametrize("begun", [0, 1, 7])
def test_an_iteration_that_began_before_gives_each_row_once(filled, begun):
    store, rows = filled
    store.append(rows.keys[:10], rows.features[:10] + 1)  # doubles, of which one is hidden
    expected = store.read(rows.keys).copy()
    reader = FeatureStore.at(store.folder)
    blocks = reader.blocks(rows=7)
    got = [next(blocks) for _ in range(begun)]
    if not begun:
        assert reader.rows == 400
    compact(store.folder, target_bytes=TARGET)
    got += list(blocks)
    keys = np.concatenate([block.keys for block in got])
    assert len(keys) == 400
    assert len(np.unique(keys, axis=0)) == 400
    assert max(len(block.keys) for block in got) <= 7
    features = np.concatenate([block.features for block in got])
    found = {key.tobytes(): row for key, row in zip(keys, features, strict=True)}
    again = np.array([found[key.tobytes()] for key in rows.keys])
    assert np.array_equal(again[10:], expected[10:])


def test_an_iteration_whose_rows_are_taken_away_says_so(filled):
    store, _ = filled
    blocks = store.blocks()
    next(blocks)
    for shard in sorted((store.folder / "shards").iterdir())[5:]:
        shard.unlink()
    with pytest.raises(CacheError, match="changed while it was read"):
        list(blocks)


def test_readers_read_while_others_append_and_compact(tmp_path, recipe, rows_of):
    rows = rows_of(800, 50)
    writer = FeatureStore.open(tmp_path, recipe)
    kept, through, errors = [0], threading.Event(), []

    def write():
        try:
            for i in range(0, 800, 5):
                writer.append(rows.keys[i : i + 5], rows.features[i : i + 5])
                kept[0] = i + 5
                if i % 50 == 45:
                    compact(writer.folder, target_bytes=20_000)
        except BaseException as error:
            errors.append(error)
        finally:
            through.set()

    thread = threading.Thread(target=write)
    thread.start()
    rounds = 0
    reader = FeatureStore.at(writer.folder)
    try:
        while not through.is_set():
            count = kept[0]
            if not count:
                continue
            reader.refresh()
            assert np.array_equal(reader.read(rows.keys[:count]), rows.features[:count])
            keys = np.concatenate([block.keys for block in reader.blocks(rows=64)])
            assert len(np.unique(keys, axis=0)) == len(keys) >= count
            assert reader.check() == []
            rounds += 1
    finally:
        thread.join()
    assert errors == []
    assert rounds > 3
    assert_all_there(writer.folder, rows)


def test_a_damaged_shard_is_neither_copied_nor_removed(filled):
    store, rows = filled
    bad = sorted((store.folder / "shards").iterdir())[7]
    lost = FeatureStore.at(store.folder)
    data = bytearray(bad.read_bytes())
    data[-1] ^= 1
    bad.write_bytes(data)
    done = compact(store.folder, target_bytes=TARGET)
    (finding,) = done.findings
    assert finding.shard == bad.name
    assert bad.read_bytes() == data
    again = FeatureStore.at(store.folder)
    (found,) = again.check()
    assert found.shard == bad.name
    missing = again.missing(rows.keys)
    assert len(missing) == 10
    good = np.setdiff1d(np.arange(400), missing)
    assert np.array_equal(again.read(rows.keys[good]), rows.features[good])
    assert lost.rows == 400


def test_damage_that_comes_between_check_and_copy_stops_it(filled, monkeypatch):
    store, _ = filled
    bad = sorted((store.folder / "shards").iterdir())[7]
    data = bytearray(bad.read_bytes())
    data[-5000] ^= 1
    bad.write_bytes(data)
    monkeypatch.setattr(rewrite, "problem_of", lambda shard: None)
    with pytest.raises(CacheError, match="nothing was removed"):
        compact(store.folder)
    assert len(list((store.folder / "shards").iterdir())) == 40


def test_two_do_not_compact_at_once(filled):
    store, rows = filled
    with exclusive(store.folder):
        with pytest.raises(CacheError, match="another compact or gc is at work"):
            compact(store.folder)
        store.append(rows.keys[:3], rows.features[:3])
    compact(store.folder)


def test_memory_is_that_of_one_merged_shard(store, rows_of):
    rows = rows_of(4000, 1000)
    fill(store, rows, 100)
    compact(store.folder, target_bytes=1_000_000)  # loads what is loaded once
    del rows
    tracemalloc.start()
    try:
        compact(store.folder, target_bytes=3_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert FeatureStore.at(store.folder).shards == 7
    assert peak < 3_000_000 + 8_000_000


def test_rows_that_are_not_wanted_are_dropped_and_no_other(filled):
    store, rows = filled
    odd = {key.tobytes() for key in rows.keys[1:200:2]}

    def wanted(shard):
        return np.array([key.tobytes() not in odd for key in shard.keys])

    done = drop_rows(store.folder, wanted, target_bytes=TARGET)
    assert done.dropped == 100
    again = FeatureStore.at(store.folder)
    assert again.verify() == []
    assert again.missing(rows.keys).tolist() == list(range(1, 200, 2))
    left = np.setdiff1d(np.arange(400), np.arange(1, 200, 2))
    assert np.array_equal(again.read(rows.keys[left]), rows.features[left])
    store.refresh()
    with pytest.raises(MissingRows):
        store.read(rows.keys)


def test_a_shard_larger_than_the_target_is_rewritten_as_several(store, rows_of):
    rows = rows_of(400, 100)
    store.append(rows.keys, rows.features)
    first = rows.keys[0].tobytes()

    def wanted(shard):
        return np.array([key.tobytes() != first for key in shard.keys])

    drop_rows(store.folder, wanted, target_bytes=TARGET)
    again = FeatureStore.at(store.folder)
    assert again.shards == 4
    assert np.array_equal(again.read(rows.keys[1:]), rows.features[1:])
    assert again.missing(rows.keys).tolist() == [0]


def test_dropping_all_rows_leaves_no_shard(filled):
    store, _ = filled
    drop_rows(store.folder, lambda shard: np.zeros(shard.header.rows, bool))
    assert list((store.folder / "shards").iterdir()) == []
    assert FeatureStore.at(store.folder).rows == 0
