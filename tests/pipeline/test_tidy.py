"""What `headstart compact` and `headstart gc` promise."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from cache import FeatureStore
from tests.pipeline.conftest import SMALL, Ran

Command = Callable[..., Ran]


def stores(out: Path) -> list[FeatureStore]:
    return [FeatureStore.at(recipe.parent) for recipe in sorted(out.glob("*/*/recipe.json"))]


def scatter(store: FeatureStore, step: int = 4) -> None:
    """Keep the rows of a store in shards of `step` rows."""
    (block,) = store.blocks()
    keys, features = block.keys.copy(), block.features.copy()
    for shard in (store.folder / "shards").iterdir():
        shard.unlink()
    again = FeatureStore.at(store.folder)
    for i in range(0, len(keys), step):
        again.append(keys[i : i + step], features[i : i + step])


def test_compact_merges_shards_and_nothing_is_computed_again(
    headstart: Command, filled: Path, photos: Path
) -> None:
    for store in stores(filled):
        scatter(store)
    done = headstart("compact", "--out", filled, "--json")
    assert done.code == 0
    for told in done.json["stores"]:
        assert (told["shards_before"], told["shards_after"], told["findings"]) == (6, 1, [])
    assert "1 shard " in headstart("compact", "--out", filled).out
    assert headstart("verify", "--out", filled).code == 0
    assert headstart("features", photos, *SMALL, "--out", filled, "--json").json["new"] == 0


def test_compact_tells_of_a_damaged_shard_and_leaves_it(headstart: Command, filled: Path) -> None:
    store = stores(filled)[0]
    scatter(store)
    bad = min((store.folder / "shards").iterdir())
    data = bytearray(bad.read_bytes())
    data[-1] ^= 1
    bad.write_bytes(data)
    ran = headstart("compact", "--out", filled)
    assert ran.code == 1
    assert bad.name in ran.out
    assert bad.read_bytes() == data


def test_gc_removes_the_rows_of_images_that_are_gone(
    headstart: Command, filled: Path, photos: Path
) -> None:
    (before,) = stores(filled)[0].blocks()
    pairs = zip(before.keys, before.features, strict=True)
    expected = {key.tobytes(): row.copy() for key, row in pairs}
    for i in range(3):
        (photos / "red" / f"{i}.png").unlink()
    told = headstart("gc", photos, "--out", filled, "--json").json
    assert (told["images"], told["rows"], told["removed"]) == (21, 6, False)
    assert [s.rows for s in stores(filled)] == [24, 24], "without --yes, --json shows only"
    done = headstart("gc", photos, "--out", filled, "--yes")
    assert done.code == 0
    assert "6 rows" in done.out
    features, facts = stores(filled)
    assert (features.rows, facts.rows) == (21, 21)
    assert features.verify() == facts.verify() == []
    for block in features.blocks():
        for key, row in zip(block.keys, block.features, strict=True):
            assert np.array_equal(row, expected[key.tobytes()])
    assert headstart("features", photos, *SMALL, "--out", filled, "--json").json["new"] == 0
    assert "nothing to remove" in headstart("gc", photos, "--out", filled).out


@pytest.mark.parametrize("answer, rows", [("y\n", 12), ("n\n", 24), ("", 24)])
def test_gc_asks_first(
    headstart: Command,
    filled: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    rows: int,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    ran = headstart("gc", photos / "red", "--out", filled)
    assert ran.code == 0
    assert "to be removed: 24 rows" in ran.out
    assert [store.rows for store in stores(filled)] == [rows, rows]


def test_gc_keeps_what_any_of_several_data_sets_needs(
    headstart: Command, filled: Path, photos: Path
) -> None:
    ran = headstart("gc", photos / "red", photos / "blue", "--out", filled, "--yes", "--json")
    assert ran.json["rows"] == 0
    assert [store.rows for store in stores(filled)] == [24, 24]


def test_gc_removes_a_store_that_no_data_set_needs(
    headstart: Command, filled: Path, photos: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(photos, tmp_path / "other")
    for path in other.rglob("*.*g"):
        path.write_bytes(path.read_bytes() + b"\0")
    ran = headstart("gc", other, "--out", filled, "--yes")
    assert "the whole store" in ran.out
    assert stores(filled) == []


def test_gc_of_data_that_cannot_be_found_or_read_removes_nothing(
    headstart: Command, filled: Path, photos: Path
) -> None:
    assert headstart("gc", photos / "nowhere", "--out", filled, "--yes").code == 2
    gone = photos / "red" / "0.png"
    gone.unlink()
    gone.symlink_to("/nowhere/0.png")
    ran = headstart("gc", photos, "--out", filled, "--yes")
    assert ran.code == 2
    assert "which rows they need is not known" in ran.err
    assert [store.rows for store in stores(filled)] == [24, 24]


def test_gc_does_not_take_rows_from_under_a_run(
    headstart: Command, filled: Path, photos: Path
) -> None:
    with FileLock(stores(filled)[0].folder / "work.lock"):
        ran = headstart("gc", photos / "red", "--out", filled, "--yes")
    assert ran.code == 2
    assert "a run is filling" in ran.err
    assert stores(filled)[0].rows == 24


def test_a_store_that_cannot_be_opened_is_told_and_in_nobodys_way(
    headstart: Command, filled: Path, photos: Path
) -> None:
    broken = filled / "features" / "broken"
    (broken / "shards").mkdir(parents=True)
    (broken / "shards" / "x.h5").touch()
    (filled / "features" / "never begun" / "shards").mkdir(parents=True)
    ran = headstart("compact", "--out", filled)
    assert ran.code == 1
    assert "broken is not a store" in ran.out
    assert "never begun" not in ran.out
    ran = headstart("gc", photos, "--out", filled, "--yes")
    assert ran.code == 0
    assert "nothing to remove" in ran.out
    assert "broken is not a store" in ran.out
    assert (broken / "shards" / "x.h5").exists()


def test_what_can_never_be_an_image_does_not_stop_gc(
    headstart: Command, filled: Path, photos: Path
) -> None:
    os.mkfifo(photos / "red" / "fifo.png")
    assert headstart("gc", photos, "--out", filled, "--yes").code == 0
