"""What `headstart verify --repair` and `--recompute` promise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from cache import FeatureStore
from pipeline.engines.agreement import TOLERANCE, deviations_of
from pipeline.recompute import _choose
from tests.pipeline.conftest import SMALL, Ran, paint

Command = Callable[..., Ran]


def store_of(filled: Path) -> FeatureStore:
    (folder,) = filled.glob("features/*")
    return FeatureStore.at(folder)


def alter(filled: Path, row: int, by: float) -> None:
    """Store other numbers for one image, under digests that are right."""
    store = store_of(filled)
    (block,) = store.blocks()
    keys, features = block.keys.copy(), block.features.copy()
    features[row] += by
    for shard in (store.folder / "shards").iterdir():
        shard.unlink()
    FeatureStore.at(store.folder).append(keys, features)


def test_repair_moves_a_damaged_shard_to_the_quarantine(
    headstart: Command, filled: Path, photos: Path
) -> None:
    (shard,) = filled.glob("features/*/shards/*.h5")
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)
    ran = headstart("verify", "--out", filled, "--repair", "--json")
    assert ran.code == 1
    (finding,) = ran.json["findings"]
    assert Path(finding["moved_to"]).parent == shard.parent.parent / "quarantine"
    assert Path(finding["moved_to"]).read_bytes() == damaged
    assert not shard.exists()
    assert headstart("verify", "--out", filled).code == 0
    assert headstart("features", photos, *SMALL, "--out", filled, "--json").json["new"] == 24


def test_rows_that_say_the_truth_agree(headstart: Command, filled: Path, photos: Path) -> None:
    paint(photos / "red" / "new.png", seed=99)  # has no row, so it is not chosen
    check = ("verify", photos, *SMALL, "--batch-size", 7, "--out", filled)
    ran = headstart(*check, "--recompute", 100, "--json")
    assert ran.code == 0, ran.err
    told = ran.json["recomputed"]
    assert (told["rows"], told["deviations"]) == (24, [])
    assert told["largest_deviation"] < told["tolerance"] == TOLERANCE["float32"]


def test_rows_that_lie_under_right_digests_are_found(
    headstart: Command, filled: Path, photos: Path
) -> None:
    alter(filled, row=3, by=0.1)
    alter(filled, row=5, by=np.nan)
    assert headstart("verify", "--out", filled).code == 0
    ran = headstart("verify", photos, "--recompute", 24, *SMALL, "--out", filled, "--json")
    assert ran.code == 1
    found = [each["deviation"] for each in ran.json["recomputed"]["deviations"]]
    assert len(found) == 2
    assert None in found
    assert max(each or 0 for each in found) > TOLERANCE["float32"]


def test_the_images_chosen_are_drawn_by_the_seed(filled: Path, photos: Path) -> None:
    store = store_of(filled)
    (block,) = store.blocks()
    keys = np.concatenate([block.keys, block.keys[:5], 255 - block.keys[:5]])
    drawn, _ = _choose([store], keys, 10, seed=1)
    assert np.array_equal(drawn, _choose([store], keys, 10, seed=1)[0])
    assert not np.array_equal(drawn, _choose([store], keys, 10, seed=2)[0])
    assert len(np.unique(keys[drawn], axis=0)) == 10
    assert len(_choose([store], keys, 100, seed=1)[0]) == 24


def test_what_cannot_be_checked_again_is_wrong_use(
    headstart: Command, filled: Path, photos: Path
) -> None:
    assert headstart("verify", photos, "--out", filled).code == 2
    assert headstart("verify", "--recompute", 3, "--out", filled).code == 2
    ran = headstart("verify", photos, "--recompute", 3, *SMALL, "--pooling", "max", "--out", filled)
    assert ran.code == 2
    assert "no store" in ran.err


def test_deviations_are_relative_to_the_largest_number_of_a_row() -> None:
    stored = np.array([[100.0, 1.0], [0.0, 0.0], [1.0, np.inf], [0.0, 0.0]], np.float32)
    now = np.array([[100.0, 1.5], [0.0, 0.0], [1.0, np.inf], [0.0, 2.0]], np.float32)
    assert deviations_of(stored, now).tolist() == [0.005, 0.0, np.inf, 1.0]
