"""What `--views`, `--augment` and `--tta` promise, through the command line on real files."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache import FeatureStore
from pipeline.export import load_head
from pipeline.heads.base import softmax
from tests.pipeline.conftest import SMALL, Ran, paint, start

Command = Callable[..., Ran]
FLIPS = ("--augment", "flip,crop")


@pytest.fixture
def features(headstart: Command, filled: Path) -> Command:
    def run(data: object, *flags: object) -> Ran:
        return headstart("features", data, *SMALL, "--out", filled, *flags, "--json")

    return run


@pytest.fixture(scope="session")
def viewed_once(filled_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds four views of each of `photos`; to be copied, not changed."""
    from dataclasses import replace

    from pipeline.config import BackboneConfig, FeaturesConfig
    from pipeline.events import ignore
    from pipeline.stage_one import find_dataset, make_features

    out = shutil.copytree(filled_once, tmp_path_factory.mktemp("viewed") / "out")
    backbone = BackboneConfig(backbone=SMALL[1], size=int(SMALL[3]), engine="keras")
    config = FeaturesConfig(data=str(filled_once.parent / "photos"), out=out, backbone=backbone)
    config = replace(config, views=4, augment="flip,crop")
    make_features(config, find_dataset(config), ignore)
    return out


@pytest.fixture
def viewed(viewed_once: Path, photos: Path) -> Path:
    """A cache of its own, beside `photos`, that holds four views of each."""
    return shutil.copytree(viewed_once, photos.parent / "viewed")


def store_of(out: Path) -> FeatureStore:
    (store,) = [s for s in map(FeatureStore.at, out.glob("features/*")) if s.last_view]
    return store


def test_views_are_rows_of_their_own_store_and_the_plain_ones_are_reused(
    features: Command, photos: Path
) -> None:
    made = features(photos, "--views", 3, *FLIPS).json
    assert (made["images"], made["new"], made["reused"], made["views"]) == (24, 24, 0, 3)
    assert (made["rows_new"], made["rows_reused"]) == (48, 24)
    augmented = made["made"][0]["augmented"]
    assert (augmented["policy"], augmented["views"]) == ("flip,crop v1", 2)
    assert (FeatureStore.at(Path(made["store"])).rows, augmented["new"]) == (24, 48)
    store = FeatureStore.at(Path(augmented["store"]))
    assert (store.rows, store.dims, store.last_view) == (48, 1280, 2)


def test_relabelling_adding_images_and_adding_views_recompute_nothing(
    headstart: Command, viewed: Path, photos: Path
) -> None:
    def rows(*flags: object) -> tuple[int, int]:
        ran = headstart("features", photos, *SMALL, "--out", viewed, *flags, "--json").json
        return ran["rows_new"], ran["rows_reused"]

    assert rows("--views", 4, *FLIPS) == (0, 96)
    shutil.move(photos / "red" / "0.png", photos / "blue" / "other name.png")
    assert rows("--views", 4, "--augment", "crop,flip") == (0, 96)
    paint(photos / "red" / "new.png", seed=400)
    assert rows("--views", 4, *FLIPS) == (4, 96)
    assert rows("--views", 6, *FLIPS) == (2 * 25, 4 * 25)
    assert rows("--views", 2, *FLIPS) == (0, 50)
    assert rows() == (0, 25)
    assert rows("--views", 2, *FLIPS, "--augment-seed", 1) == (25, 25)
    assert rows("--views", 2, *FLIPS, "--seed", 1) == (0, 50), "of folds and weights"


def test_an_image_under_two_names_has_one_row_of_each_view(features: Command, photos: Path) -> None:
    shutil.copy(photos / "red" / "0.png", photos / "red" / "again.png")
    made = features(photos, "--views", 3, *FLIPS).json
    assert (made["images"], made["rows_new"], made["doubles"]) == (25, 48, 1)


def test_shards_of_the_work_make_the_views_of_their_images(features: Command, photos: Path) -> None:
    parts = [
        features(photos, "--views", 3, *FLIPS, "--shard", f"{i}/2").json["rows_new"] for i in (1, 2)
    ]
    assert sum(parts) == 48
    assert min(parts) > 0
    assert features(photos, "--views", 3, *FLIPS).json["rows_new"] == 0


def test_the_summary_tells_what_views_are_and_cost(
    headstart: Command, filled: Path, photos: Path
) -> None:
    command = ("features", photos, *SMALL, "--out", filled, "--views", 3, "--augment", "question")
    first = headstart(*command)
    assert "48 rows to compute: 245.8 kB" in first.err
    assert "2 more of each image by flip,rotate: 48 new in about" in first.out
    assert "holds 48 rows" in first.out
    again = headstart(*command)
    assert "2 more of each image by flip,rotate: 0 new, 48 reused" in again.out


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--views", "4", "--augment", "flip,colour"), "did you mean color"),
        (("--views", "4", "--augment", ""), "did you mean"),
        (("--views", "65"), "1<=x<=64"),
        (("--views", "0"), "1<=x<=64"),
        (("--views", "many"), "not a valid integer"),
    ],
)
def test_impossible_views_are_wrong_use(
    flags: tuple[str, ...], told: str, headstart: Command, filled: Path, photos: Path
) -> None:
    ran = headstart("features", photos, *SMALL, "--out", filled, *flags)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert told in ran.err
    assert len(list(filled.glob("features/*"))) == 1


def test_too_small_a_disk_is_wrong_use_and_nothing_is_lost(
    headstart: Command, filled: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        free = 1000

    monkeypatch.setattr("pipeline.extract.shutil.disk_usage", lambda _: Full)
    command = ("features", photos, *SMALL, "--out", filled)
    ran = headstart(*command, "--views", 8)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "168 rows take 860.2 kB" in ran.err
    assert headstart(*command, "--json").json["reused"] == 24


def test_a_killed_run_goes_on_from_its_last_shard_of_views(
    photos: Path, filled: Path, headstart: Command
) -> None:
    flags = (photos, *SMALL, "--out", filled, "--views", 40, *FLIPS, "--engine", "keras")
    run = start("features", *flags, "--commit-seconds", 0, "--batch-size", 2)
    shards = filled.glob
    for _ in range(1200):
        if len(list(shards("features/*/shards/*.h5"))) > 4:
            break
        time.sleep(0.05)
    run.kill()
    run.communicate()
    kept = store_of(filled).rows
    assert 0 < kept < 39 * 24
    again = headstart("features", *flags, "--json").json
    assert (again["rows_new"], again["rows_reused"]) == (39 * 24 - kept, 24 + kept)


@pytest.mark.parametrize("tta", [False, True])
def test_heads_train_on_views_and_their_file_says_so(
    tta: bool, headstart: Command, viewed: Path, photos: Path
) -> None:
    command = ("heads", photos, *SMALL, "--out", viewed, "--heads", "logistic,ridge,mlp")
    flags = ("--views", 4, *FLIPS, *(["--tta"] if tta else []))
    ran = headstart(*command, *flags, "--json")
    assert ran.code == 0, ran.err
    board = ran.json
    assert board["views"] == {"trained_on": 4, "policy": "flip,crop v1", "averaged": tta}
    assert board["best"]["score"] > 0.9
    assert board["features"]["rows_new"] == 0
    head = load_head(Path(board["head_file"]))
    assert head.views is not None
    assert (head.views.policy.text, head.views.count, head.views.averaged) == ("flip,crop", 4, tta)
    again = headstart(*command, *flags)
    assert f"{board['fits']} fits, {board['fits']} of them kept" in again.out
    assert "trained on 4 views of each training image (flip,crop)" in again.out
    assert ("by the mean of its views" in again.out) == tta
    plain = headstart(*command, "--json").json
    assert plain["fits_reused"] == 0, "fits on plain rows are others"
    assert load_head(Path(plain["head_file"])).views is None


def test_predict_averages_the_views_that_the_head_was_scored_by(
    headstart: Command, viewed: Path, photos: Path
) -> None:
    flags = ("--views", 4, *FLIPS, "--tta", "--heads", "logistic", "--json")
    board = headstart("heads", photos, *SMALL, "--out", viewed, *flags).json
    (photos / "red" / "broken.png").write_bytes(b"no image")
    images = [photos / "red" / "0.png", photos / "red" / "broken.png", photos / "blue" / "3.jpg"]
    ran = headstart("predict", board["head_file"], *images, "--out", viewed, "--json")
    told = ran.json
    assert told["views"] == 4
    assert [p["path"] for p in told["predictions"]] == [str(images[0]), str(images[2])]
    assert [r["path"] for r in told["rejected"]] == [str(images[1])]
    assert [p["label"] for p in told["predictions"]] == ["red", "blue"]
    head = load_head(Path(board["head_file"]))
    plain = FeatureStore.at(Path(board["features"]["store"]))
    import hashlib

    for image, prediction in zip(images[::2], told["predictions"], strict=True):
        key = np.frombuffer(hashlib.sha256(image.read_bytes()).digest(), np.uint8)[None]
        rows = [plain.read(key), *(store_of(viewed).read(key, [view]) for view in (1, 2, 3))]
        each = [softmax(head.logits(row)) for row in rows]
        mean = np.log(np.mean(each, axis=0)) / head.temperature
        expected = dict(zip(head.classes, softmax(mean)[0].tolist(), strict=True))
        assert prediction["probabilities"] == pytest.approx(expected, abs=2e-4)


def test_means_of_no_views_are_wrong_use(headstart: Command, filled: Path, photos: Path) -> None:
    ran = headstart("heads", photos, *SMALL, "--out", filled, "--tta")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "--views" in ran.err


def test_a_sweep_file_says_views_and_flags_beat_it(
    headstart: Command, viewed: Path, photos: Path, tmp_path: Path
) -> None:
    file = tmp_path / "heads.toml"
    file.write_text(
        f'data = "{photos}"\nout = "{viewed}"\nbackbone = "{SMALL[1]}"\nsize = {SMALL[3]}\n'
        'views = 4\naugment = "crop, flip"\ntta = true\n[[heads]]\nhead = "ridge"\nalpha = 10.0\n'
    )
    told = headstart("heads", "--config", file, "--json").json
    assert told["views"] == {"trained_on": 4, "policy": "flip,crop v1", "averaged": True}
    told = headstart("heads", "--config", file, "--views", 1, "--no-tta", "--json").json
    assert told["views"] == {"trained_on": 1, "policy": None, "averaged": False}
    file.write_text('augment = "flip,crob"\n')
    ran = headstart("heads", photos, "--config", file)
    assert ran.code == 2
    assert "line 1" in ran.err
    assert "crop" in ran.err


def test_status_tells_the_views_and_counts_images_that_lack_one(
    headstart: Command, viewed: Path, photos: Path
) -> None:
    def stores() -> dict[int, Any]:
        told = headstart("status", photos, "--out", viewed, "--json").json["stores"]
        return {s["views"]: s for s in told if s["recipe"]["kind"] == "FeatureRecipe"}

    assert {views: (s["rows"], s["missing"]) for views, s in stores().items()} == {
        0: (24, 0),
        3: (72, 0),
    }
    paint(photos / "red" / "new.png", seed=400)
    headstart("features", photos, *SMALL, "--out", viewed, "--views", 2, *FLIPS)
    assert {views: s["missing"] for views, s in stores().items()} == {0: 0, 3: 1}
    text = headstart("status", "--out", viewed).out
    assert "augment flip,crop v1" in text
    assert "views 1 to 3 of each image" in text


def test_gc_keeps_the_views_of_images_that_are_needed(
    headstart: Command, viewed: Path, photos: Path
) -> None:
    assert headstart("gc", photos, "--out", viewed, "--json").json["removed"] is False
    (photos / "red" / "0.png").unlink()
    headstart("gc", photos, "--out", viewed, "--yes")
    assert store_of(viewed).rows == 23 * 3
    made = headstart("features", photos, *SMALL, "--out", viewed, "--views", 4, *FLIPS, "--json")
    assert made.json["rows_new"] == 0


def test_compact_merges_shards_of_views(headstart: Command, viewed: Path, photos: Path) -> None:
    flags = (photos, *SMALL, "--out", viewed, *FLIPS, "--json")
    headstart("features", *flags, "--views", 6)
    assert store_of(viewed).shards == 2
    assert headstart("compact", "--out", viewed).code == 0
    assert (store_of(viewed).shards, store_of(viewed).rows) == (1, 120)
    assert headstart("features", *flags, "--views", 6).json["rows_new"] == 0


def test_views_are_computed_again_and_a_wrong_one_is_found(
    headstart: Command, viewed: Path, photos: Path
) -> None:
    flags = (photos, "--recompute", 96, *SMALL, "--views", 4, *FLIPS, "--out", viewed)
    ran = headstart("verify", *flags, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["recomputed"]["rows"] == 96
    assert ran.json["recomputed"]["largest_deviation"] < 1e-4
    store = store_of(viewed)
    (block,) = store.blocks()
    keys, views, rows = block.keys.copy(), block.views.copy(), block.features.copy()
    rows[5] *= 1.1
    for shard in (store.folder / "shards").iterdir():
        shard.unlink()
    FeatureStore.at(store.folder).append(keys, rows, views)
    ran = headstart("verify", *flags, "--json")
    assert ran.code == 1
    (deviation,) = ran.json["recomputed"]["deviations"]
    assert deviation["view"] == views[5]
    assert f"(view {views[5]}): its row is off by" in headstart("verify", *flags).out
    without = headstart("verify", photos, "--recompute", 96, *SMALL, "--out", viewed, "--json")
    assert (without.code, without.json["recomputed"]["rows"]) == (0, 24)
    flags = (photos, "--recompute", 9, *SMALL, "--views", 4, "--out", viewed)
    assert headstart("verify", *flags).code == 2, "no store of that policy"


def test_export_holds_the_plain_rows(headstart: Command, viewed: Path, photos: Path) -> None:
    file = photos.parent / "rows.npz"
    assert headstart("export-h5", photos, file, *SMALL, "--out", viewed).code == 0
    assert np.load(file)["features"].shape == (24, 1280)


def test_init_explains_views(headstart: Command, tmp_path: Path) -> None:
    headstart("init", tmp_path)
    text = (tmp_path / "heads.toml").read_text()
    assert '# views = 1\n# augment = "flip,scale,crop,color"\n' in text
    assert "# tta = false" in text
