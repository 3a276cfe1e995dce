"""What nobody needs goes; what anybody needs, or might still write, stays."""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cache import CacheError, FeatureStore
from cache.atomic import anchor, unique_name
from cache.compaction import exclusive
from cache.garbage import (
    DAY,
    QUARANTINE_DAYS,
    find_garbage,
    keys_wanted,
    leftovers_in,
    remove_garbage,
)


@pytest.fixture
def filled(store, rows_of):
    """A store of 4 shards of 10 rows, with a view 1 of the first 10, and its rows."""
    rows = rows_of(40, 100)
    for i in range(0, 40, 10):
        store.append(rows.keys[i : i + 10], rows.features[i : i + 10])
    store.append(rows.keys[:10], rows.features[:10] + 1, np.ones(10, np.uint32))
    return store, rows


def snapshot(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.name != "compact.lock"}


def test_looking_tells_what_would_go_and_changes_nothing(filled):
    store, rows = filled
    before = snapshot(store.folder)
    found = find_garbage(store.folder, keys_wanted(rows.keys[:15]))
    assert (found.rows, found.whole, found.nothing) == (25, False, False)
    assert found.row_bytes == 25 * (400 + 40)
    assert snapshot(store.folder) == before


def test_rows_of_images_nobody_has_go_and_all_views_of_the_others_stay(filled):
    store, rows = filled
    wanted = keys_wanted(rows.keys[:15])
    assert remove_garbage(find_garbage(store.folder, wanted), wanted) == ()
    again = FeatureStore.at(store.folder)
    assert again.verify() == []
    assert again.missing(rows.keys).tolist() == list(range(15, 40))
    assert np.array_equal(again.read(rows.keys[:15]), rows.features[:15])
    ones = np.ones(10, np.uint32)
    assert np.array_equal(again.read(rows.keys[:10], ones), rows.features[:10] + 1)
    assert find_garbage(store.folder, wanted).nothing


def test_a_store_of_which_no_row_is_needed_goes_as_a_whole(filled, rows_of):
    store, rows = filled
    (store.folder / "rejects.jsonl").write_text("{}\n")
    store.check()
    wanted = keys_wanted(rows_of(3, seed=9).keys)
    found = find_garbage(store.folder, wanted)
    assert found.whole
    remove_garbage(found, wanted)
    assert not store.folder.exists()
    # Whoever has it open and goes on makes it anew.
    store.append(rows.keys[:3], rows.features[:3])
    assert np.array_equal(FeatureStore.at(store.folder).read(rows.keys[:3]), rows.features[:3])


def test_a_store_with_a_file_of_the_users_keeps_it(filled, rows_of):
    store, _ = filled
    (store.folder / "notes.txt").write_text("mine")
    wanted = keys_wanted(rows_of(3, seed=9).keys)
    remove_garbage(find_garbage(store.folder, wanted), wanted)
    assert (store.folder / "notes.txt").read_text() == "mine"
    assert FeatureStore.at(store.folder).rows == 0


def test_a_writer_that_comes_while_a_store_is_removed_keeps_its_rows(filled, rows_of, monkeypatch):
    store, _ = filled
    rows = rows_of(3, 100, seed=9)
    wanted = keys_wanted(rows.keys)
    garbage = find_garbage(store.folder, wanted)
    unlink, came = Path.unlink, []

    def slow(path, **options):
        unlink(path, **options)
        if path.name == "recipe.json" and not came:
            came.append(store.append(rows.keys, rows.features))

    monkeypatch.setattr(Path, "unlink", slow)
    remove_garbage(garbage, wanted)
    assert came
    assert np.array_equal(FeatureStore.at(store.folder).read(rows.keys), rows.features)


def test_a_store_made_again_after_its_removal_is_synced_again(filled, rows_of, monkeypatch):
    store, rows = filled
    store.append(rows.keys[:1], rows.features[:1])
    others = rows_of(3, 100, seed=9)
    wanted = keys_wanted(others.keys)
    remove_garbage(find_garbage(store.folder, wanted), wanted)
    assert not store.folder.exists()
    synced = []
    monkeypatch.setattr(
        "cache.store.anchor", lambda folder: synced.append(folder) or anchor(folder)
    )
    store.append(others.keys, others.features)
    assert synced == [store.folder / "shards"]


def test_a_store_with_a_damaged_shard_does_not_go_as_a_whole(filled, rows_of):
    store, _ = filled
    bad = min((store.folder / "shards").iterdir())
    os.truncate(bad, 5000)
    wanted = keys_wanted(rows_of(3, 100, seed=9).keys)
    found = find_garbage(store.folder, wanted)
    assert not found.whole
    remove_garbage(found, wanted)
    assert [p.name for p in (store.folder / "shards").iterdir()] == [bad.name]


def test_rows_in_a_damaged_shard_are_not_rewritten(filled):
    store, rows = filled
    bad = store.append(rows.keys[:20], rows.features[:20] + 5)
    data = bytearray(bad.read_bytes())
    data[-1] ^= 1
    bad.write_bytes(data)
    wanted = keys_wanted(rows.keys[:15])
    (finding,) = remove_garbage(find_garbage(store.folder, wanted), wanted)
    assert finding.shard == bad.name
    assert bad.exists()


def test_rows_that_come_after_the_look_are_not_touched(filled, rows_of):
    store, rows = filled
    wanted = keys_wanted(rows.keys[:15])
    found = find_garbage(store.folder, wanted)
    new = rows_of(5, 100, seed=3)
    store.append(new.keys, new.features)
    remove_garbage(found, wanted)
    assert np.array_equal(FeatureStore.at(store.folder).read(new.keys), new.features)


def test_an_empty_store_is_no_garbage(store, rows_of):
    assert find_garbage(store.folder, keys_wanted(rows_of(3).keys)).nothing


def test_nothing_is_removed_while_another_compacts(filled):
    store, rows = filled
    wanted = keys_wanted(rows.keys[:15])
    found = find_garbage(store.folder, wanted)
    with exclusive(store.folder), pytest.raises(CacheError, match="another compact or gc"):
        remove_garbage(found, wanted)
    assert FeatureStore.at(store.folder).rows == 50


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_leftovers_go_where_their_process_is_dead_or_they_are_a_day_old(filled):
    store, rows = filled
    tmp = store.folder / "tmp"
    host, _, token = unique_name().rsplit("-", 2)
    assert host.startswith(platform.node()[:5].replace("-", "_"))
    dead = f"{host}-{dead_pid()}-{token}"
    alive = f"{host}-{os.getpid()}-{token}"
    elsewhere = f"elsewhere-{dead_pid()}-{token}"
    names = [dead, alive, elsewhere, "notes.txt", "checked-0123"]
    for name in names:
        (tmp / name).write_bytes(b"half")
    (tmp / f"{host}-{dead_pid()}-{'0' * 32}").symlink_to(store.folder / "recipe.json")
    wanted = keys_wanted(rows.keys)
    found = find_garbage(store.folder, wanted)
    assert [p.name for p in found.leftovers] == [dead]
    assert (found.rows, found.file_bytes) == (0, 4)
    late = find_garbage(store.folder, wanted, now=time.time() + DAY + 60)
    assert {p.name for p in late.leftovers} == {dead, alive, elsewhere, "checked-0123"}
    assert {p.name for p in leftovers_in(tmp)} == {dead}
    remove_garbage(found, wanted)
    assert not (tmp / dead).exists()
    assert (tmp / alive).exists()
    assert (store.folder / "recipe.json").exists()


def test_old_quarantined_files_go_and_new_ones_stay(filled):
    store, rows = filled
    aside = store.folder / "quarantine"
    (aside / "shard.h5.01234567").write_bytes(b"bad")
    (aside / "folder.h5.01234567").mkdir()
    (aside / "link.h5.01234567").symlink_to(store.folder / "shards")
    wanted = keys_wanted(rows.keys)
    assert find_garbage(store.folder, wanted).nothing
    late = find_garbage(store.folder, wanted, now=time.time() + (QUARANTINE_DAYS + 1) * DAY)
    assert len(late.quarantined) == 3
    remove_garbage(late, wanted)
    assert list(aside.iterdir()) == []
    assert FeatureStore.at(store.folder).rows == 50
