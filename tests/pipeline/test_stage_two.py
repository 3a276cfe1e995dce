"""What `headstart heads` and `headstart predict` promise, through the command line."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.pipeline.conftest import SMALL, Ran, paint
from tests.pipeline.drawings import drawing

Command = Callable[..., Ran]


@pytest.fixture
def heads(headstart: Command, tmp_path: Path) -> Command:
    def run(data: object, *flags: object, only: str = "logistic,knn") -> Ran:
        out = tmp_path / "out"
        return headstart("heads", data, *SMALL, "--out", out, "--json", "--heads", only, *flags)

    return run


def without_times(board: Any) -> Any:
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in board["leaderboard"]]


def test_one_command_makes_features_a_leaderboard_and_a_head(heads: Command, photos: Path) -> None:
    ran = heads(photos, only="logistic,ridge,svm,knn,centroid,mlp")
    assert ran.code == 0, ran.err
    board = ran.json
    assert board["features"]["new"] == 24
    assert {entry["head"] for entry in board["leaderboard"]} == {
        "logistic", "ridge", "svm", "knn", "centroid", "mlp",
    }  # fmt: skip
    scores = [entry["score"] for entry in board["leaderboard"]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.9
    for entry in board["leaderboard"]:
        for field in ("settings", "std", "train_score", "parameters", "bytes", "seconds", "tied"):
            assert entry[field] is not None
    assert board["best"] == board["leaderboard"][0]
    folder = Path(board["head_file"]).parent
    assert {path.name for path in folder.iterdir()} == {
        "best.head", "leaderboard.json", "config.json", "environment.json", "duplicates.csv",
        "out_of_fold.npz", "hard.csv",
    }  # fmt: skip
    assert json.loads((folder / "leaderboard.json").read_text()) == board
    config = json.loads((folder / "config.json").read_text())
    assert config["asked"]["features"]["data"] == str(photos)
    assert config["recipe"]["backbone"] == SMALL[1]
    assert len(config["heads"]) == len(board["leaderboard"])
    assert "tensorflow" in json.loads((folder / "environment.json").read_text())


def test_what_heads_said_of_images_they_had_not_seen_is_kept(heads: Command, photos: Path) -> None:
    board = heads(photos, only="logistic,knn").json
    kept = np.load(Path(board["head_file"]).parent / "out_of_fold.npz")
    assert len(kept["head"]) == len(board["leaderboard"])
    assert kept["predicted"].shape == (len(kept["head"]), board["images"]["train"])
    right = kept["class"][kept["predicted"]] == kept["label"]
    scores = [entry["score"] for entry in board["leaderboard"]]
    # The board has means over folds, which may differ by an image.
    assert right.mean(axis=1).tolist() == pytest.approx(scores, abs=0.06)
    digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in kept["path"]]
    assert kept["key"].tolist() == digests
    assert kept["probability"].shape == (board["images"]["train"], 2)


def test_a_board_says_what_it_is_worth(heads: Command, photos: Path) -> None:
    board = heads(photos, only="logistic,knn").json
    recommended = board["recommended"]
    assert recommended in [
        {"head": e["head"], "settings": e["settings"]} for e in board["leaderboard"]
    ]
    assert board["corrected"]["score"] <= board["best"]["score"]
    assert 0 <= board["baseline"]["majority"] <= 0.6
    assert 0 <= board["baseline"]["random"] <= 1
    assert [point["rows"] for point in board["curve"]][-1] < board["images"]["train"]
    assert set(board["per_class"]) == set(board["classes"])
    assert board["groups"]["grouped_images"] == 0
    assert board["fits"] == 5 * len(board["leaderboard"])


def test_finished_fits_are_reused_and_the_second_look_at_a_holdout_is_told(
    headstart: Command, photos: Path
) -> None:
    command = ("heads", photos, *SMALL, "--out", photos.parent / "fresh", "--heads", "logistic")
    first = headstart(*command, "--json").json
    assert (first["fits_reused"], first["holdout"]["looks"]) == (0, 1)
    again = headstart(*command).out
    assert f"{first['fits']} fits, {first['fits']} of them kept from earlier runs" in again
    assert "it was looked at 2 times now" in again


QUESTION = """
backbone = "efficientnet-lite0"
weights = "random"
size = 32
folds = 3

[[heads]]
head = "mlp"
hidden = "12+8"
epochs = 2
patience = 0
pooling = "flatten"
only_first_fold = true

[[heads]]
head = "mlp"
hidden = ["8", "4"]
epochs = 2
patience = 0

[[heads]]
head = "ridge"
alpha = 100.0
"""


def test_a_head_on_features_of_its_own_is_compared_and_the_question_answered(
    headstart: Command, photos: Path, tmp_path: Path
) -> None:
    file = tmp_path / "question.toml"
    file.write_text(QUESTION, encoding="utf-8")
    command = ("heads", photos, "--config", file, "--out", tmp_path / "out")
    ran = headstart(*command, "--json")
    board = ran.json
    (aside,) = board["asides"]
    assert aside["pooling"] == "flatten"
    assert aside["std"] is None
    assert len(aside["fold_scores"]) == 1
    assert "beside the board: mlp" in ran.err
    assert [entry["head"] for entry in board["leaderboard"]].count("mlp") == 2
    told = headstart(*command).out
    assert "is the head too big?" in told
    assert "what is in the weight file?" in told
    assert "how many steps has an epoch?" in told


def test_where_a_class_is_rare_balanced_accuracy_stands_beside_accuracy(
    headstart: Command, tmp_path: Path
) -> None:
    for count, name, colour in ((30, "red", (150, 40, 30)), (12, "blue", (60, 120, 240))):
        for i in range(count):
            paint(tmp_path / "data" / name / f"{i}.png", i + count, colour)
    command = ("heads", tmp_path / "data", *SMALL, "--heads", "knn", "--out", tmp_path / "out")
    assert "90 % interval  balanced  training" in headstart(*command).out
    (first, *_) = headstart(*command, "--json").json["leaderboard"]
    assert 0 <= first["balanced_accuracy"] <= 1
    assert first["interval"]["low"] <= first["interval"]["high"]
    assert "balanced  training" not in headstart(*command, "--metric", "balanced_accuracy").out


def test_two_runs_give_the_same_leaderboard_but_for_the_seconds(
    heads: Command, photos: Path
) -> None:
    first, second = heads(photos, only="logistic,mlp").json, heads(photos, only="logistic,mlp").json
    assert without_times(first) == without_times(second)
    assert first["head_file"] != second["head_file"]


def test_the_holdout_is_seen_by_no_head_and_no_holdout_says_so(
    headstart: Command, heads: Command, photos: Path
) -> None:
    board = heads(photos).json
    assert board["images"]["test"] == board["holdout"]["n"] > 0
    assert board["images"]["train"] + board["images"]["test"] == 24
    assert heads(photos, "--no-holdout").json["holdout"] is None
    told = headstart(
        "heads", photos, *SMALL, "--out", photos.parent / "out", "--heads", "knn", "--no-holdout"
    )
    assert "NO HOLDOUT" in told.out


def test_a_test_split_of_the_users_is_used_once_at_the_end(heads: Command, tmp_path: Path) -> None:
    root = tmp_path / "split"
    for split, count in (("train", 10), ("test", 4)):
        for i in range(count):
            paint(root / split / "a" / f"{i}.png", i + 100 * count, (150, 40, 30))
            paint(root / split / "b" / f"{i}.png", i + 101 * count, (60, 120, 240))
    board = heads(root).json
    assert (board["images"]["train"], board["images"]["test"]) == (20, 8)
    assert board["holdout"]["n"] == 8
    assert board["best"]["std"] is not None


def test_a_val_split_replaces_the_folds_and_the_deviation_is_null(
    heads: Command, tmp_path: Path
) -> None:
    root = tmp_path / "split"
    for split in ("train", "val"):
        for i in range(6):
            paint(
                root / split / "a" / f"{i}.png", i, (150, 40, 30) if split == "val" else (160, 0, 0)
            )
            paint(
                root / split / "b" / f"{i}.png",
                i + 50,
                (60, 120, 240) if split == "val" else (0, 0, 200),
            )
    board = heads(root, "--no-holdout").json
    assert board["scheme"] == "val"
    assert (board["images"]["train"], board["images"]["val"]) == (12, 12)
    assert [entry["std"] for entry in board["leaderboard"]] == [None] * len(board["leaderboard"])


def test_a_val_split_stays_whole_when_a_holdout_is_set_aside(
    heads: Command, tmp_path: Path
) -> None:
    root = tmp_path / "split"
    for split, count in (("train", 30), ("val", 6)):
        for i in range(count):
            paint(root / split / "a" / f"{i}.png", i + 100 * count, (150, 40, 30))
            paint(root / split / "b" / f"{i}.png", i + 101 * count, (60, 120, 240))
    for seed in range(3):
        board = heads(root, "--seed", seed).json
        assert board["scheme"] == "val"
        assert board["images"]["val"] == 12
        assert board["images"]["test"] > 0


def test_groups_that_share_a_file_cost_no_training_image(heads: Command, tmp_path: Path) -> None:
    rows = [("path", "label", "group")]
    for i in range(60):
        colour = (150, 40, 30) if i % 2 else (60, 120, 240)
        name = paint(tmp_path / f"{i}.png", i, colour).name
        rows.append((name, "red" if i % 2 else "blue", f"patient {i // 3}"))
    for i in (1, 13, 25):
        shutil.copy(tmp_path / f"{i}.png", tmp_path / f"again {i}.png")
        rows.append((f"again {i}.png", "red", f"patient {i // 3 + 1}"))
    with (tmp_path / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    images = heads(tmp_path / "table.csv").json["images"]
    assert images["left_out"] == 0
    assert images["train"] + images["test"] == 63


def test_training_images_equal_to_test_images_are_left_out_and_told(
    headstart: Command, heads: Command, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    rows = [("path", "label", "split")]
    for i in range(20):
        colour = (150, 40, 30) if i % 2 else (60, 120, 240)
        name = paint(tmp_path / f"{i}.png", i, colour).name
        rows.append((name, "red" if i % 2 else "blue", "test" if i < 4 else "train"))
    shutil.copy(tmp_path / "1.png", tmp_path / "twin.png")
    rows.append(("twin.png", "red", "train"))
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    ran = heads(table)
    assert ran.json["images"] == {"train": 16, "val": 0, "test": 4, "left_out": 1}
    assert "left out: 1 image" in ran.err


def test_the_same_image_under_two_labels_is_told_with_its_paths(
    heads: Command, photos: Path
) -> None:
    shutil.copy(photos / "red" / "0.png", photos / "blue" / "impostor.png")
    assert "impostor.png" in heads(photos).err


def draw_scans(root: Path) -> Path:
    """Draw two classes of 10 pictures each; three of the first stand there once more, changed."""
    for i in range(20):
        path = root / ("sick" if i % 2 else "well") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        drawing(i).save(path)
    drawing(0).save(root / "well" / "again.bmp")
    drawing(2).resize((120, 100)).save(root / "well" / "small.jpg", quality=70)
    drawing(4).transpose(Image.Transpose.ROTATE_90).save(root / "well" / "turned.png")
    return root


def table_of(board: Any) -> list[dict[str, str]]:
    with (Path(board["head_file"]).parent / "duplicates.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_near_duplicates_make_groups_that_are_told_and_listed(
    headstart: Command, heads: Command, tmp_path: Path
) -> None:
    root = draw_scans(tmp_path / "scans")
    board = heads(root).json
    assert board["groups"] == {"groups": 3, "grouped_images": 6, "kept_together": True}
    rows = table_of(board)
    assert [row["group"] for row in rows] == ["1", "1", "2", "2", "3", "3"]
    assert {row["relation"] for row in rows if Path(row["path"]).stem in ("0", "again")} == {
        "pixels"
    }
    near = {Path(row["path"]).name: row for row in rows if row["relation"] == "near"}
    assert set(near) == {"2.png", "small.jpg", "4.png", "turned.png"}
    assert {row["label"] for row in rows} == {"well"}
    for row in rows:
        assert 0 <= float(row["distance"]) < 0.15
        # One of a group is not scored by a head that another was shown to.
        assert {r["split"] for r in rows if r["group"] == row["group"]} == {row["split"]}
    told = headstart("heads", root, *SMALL, "--out", tmp_path / "out", "--heads", "knn")
    assert "3 groups of 6 duplicates and near-duplicates, none divided" in told.out


def test_no_groups_says_that_the_scores_flatter(
    headstart: Command, heads: Command, tmp_path: Path
) -> None:
    root = draw_scans(tmp_path / "scans")
    board = heads(root, "--no-groups").json
    assert board["groups"] == {"groups": 3, "grouped_images": 6, "kept_together": False}
    assert len(table_of(board)) == 6
    told = headstart(
        "heads", root, *SMALL, "--out", tmp_path / "out", "--heads", "knn", "--no-groups"
    )
    assert "NO GROUPS: 3 groups of 6" in told.out


def test_training_images_near_test_images_are_left_out_and_told_with_paths(
    heads: Command, tmp_path: Path
) -> None:
    root = tmp_path / "scans"
    draw_scans(root / "train")
    for i, label in ((0, "well"), (30, "well"), (5, "sick"), (31, "sick")):
        path = root / "test" / label / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        drawing(i).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    ran = heads(root)
    assert ran.json["images"] == {"train": 20, "val": 0, "test": 4, "left_out": 3}
    assert "left out: 3 images in a group with an image of a later split" in ran.err
    assert "5.png (train, grouped with" in ran.err
    dropped = {Path(row["path"]).name for row in table_of(ran.json) if not row["split"]}
    assert dropped == {"0.png", "again.bmp", "5.png"}
    kept = heads(root, "--no-groups").json["images"]
    assert kept == {"train": 23, "val": 0, "test": 4, "left_out": 0}


def test_the_split_of_an_export_is_that_of_heads_where_there_are_near_duplicates(
    headstart: Command, heads: Command, tmp_path: Path
) -> None:
    root = draw_scans(tmp_path / "scans")
    for seed in range(4):
        tested = {r["path"]: r["split"] for r in table_of(heads(root, "--seed", seed).json)}
        file = tmp_path / f"{seed}.npz"
        flags = ("--out", tmp_path / "out", "--seed", seed)
        assert headstart("export-h5", root, file, *SMALL, *flags).code == 0
        with np.load(file) as columns:
            exported = dict(zip(columns["paths"].tolist(), columns["split"].tolist(), strict=True))
        assert {path: exported[path] for path in tested} == tested


@pytest.mark.parametrize(
    "metric", ["accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "log_loss"]
)
def test_heads_are_ranked_by_the_metric_asked_for(
    heads: Command, photos: Path, metric: str
) -> None:
    board = heads(photos, "--metric", metric).json
    assert board["metric"] == metric
    scores = [entry["score"] for entry in board["leaderboard"]]
    assert scores == sorted(scores, reverse=metric != "log_loss")


def test_wrong_data_get_one_sentence_and_exit_code_2(
    headstart: Command, photos: Path, tmp_path: Path
) -> None:
    one_class, flat, few = tmp_path / "one", tmp_path / "flat", tmp_path / "few"
    shutil.copytree(photos / "red", one_class / "red")
    shutil.copytree(photos / "red", flat)
    shutil.copytree(photos, few)
    for image in list((few / "blue").iterdir())[3:]:
        image.unlink()
    (tmp_path / "empty").mkdir()
    table = tmp_path / "table.csv"
    table.write_text("path,class\nphotos/red/0.png,x\n")
    for data, sentence in [
        (one_class, "one class"),
        (flat, "no labels"),
        (few, "'blue'"),
        (tmp_path / "nowhere", "nowhere"),
        (tmp_path / "empty", "no images"),
        (table, "label"),
    ]:
        ran = headstart("heads", data, *SMALL, "--out", tmp_path / "out")
        assert ran.code == 2, data
        assert sentence in ran.err
        assert ran.err.count("\n") == 1
        assert "Traceback" not in ran.err


def test_a_class_without_one_usable_image_is_named_and_not_forgotten(
    heads: Command, photos: Path
) -> None:
    for i in range(6):
        (photos / "green").mkdir(exist_ok=True)
        (photos / "green" / f"{i}.jpg").write_text(f"<html>{i}</html>")
    ran = heads(photos)
    assert ran.code == 2
    assert "class 'green'" in ran.err
    assert "rejects.jsonl" in ran.err


def test_the_summary_names_the_classes_with_their_counts(headstart: Command, photos: Path) -> None:
    ran = headstart("heads", photos, *SMALL, "--out", photos.parent / "out", "--heads", "knn")
    assert "classes    2: blue 12, red 12" in ran.out


def test_an_unknown_head_is_refused_before_any_work(headstart: Command, photos: Path) -> None:
    ran = headstart("heads", photos, *SMALL, "--out", photos.parent / "out", "--heads", "logistik")
    assert ran.code == 2
    assert "logistic" in ran.err
    assert not (photos.parent / "out" / "features").exists()


def test_a_head_labels_new_images_from_their_files(
    headstart: Command, heads: Command, photos: Path, tmp_path: Path
) -> None:
    head = heads(photos).json["head_file"]
    red = paint(tmp_path / "new" / "r, e\nd.png", 900, (150, 40, 30))
    blue = paint(tmp_path / "new" / "blue.jpg", 901, (60, 120, 240))
    page = tmp_path / "page.jpg"
    page.write_text("<html>")
    ran = headstart("predict", head, red, blue, page, "--json")
    assert ran.code == 0
    assert [p["label"] for p in ran.json["predictions"]] == ["red", "blue"]
    for prediction in ran.json["predictions"]:
        assert set(prediction["probabilities"]) == {"red", "blue"}
        assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert [r["path"] for r in ran.json["rejected"]] == [str(page)]
    assert headstart("predict", head, red, page, "--strict").code == 2
    table = list(csv.reader(headstart("predict", head, tmp_path / "new").out.splitlines(True)))
    assert table[0] == ["path", "label", "p_blue", "p_red"]
    assert sorted(row[0] for row in table[1:]) == sorted([str(red), str(blue)])


def test_prediction_from_files_equals_the_head_on_cached_features(
    headstart: Command, heads: Command, photos: Path
) -> None:
    from cache import FeatureStore
    from pipeline.export import load_head
    from pipeline.images.hashing import hash_files

    board = heads(photos).json
    ran = headstart("predict", board["head_file"], photos, "--json").json
    store = FeatureStore.at(Path(board["features"]["store"]))
    paths = [Path(p["path"]) for p in ran["predictions"]]
    from cache import FileIndex

    keys = hash_files(paths, FileIndex.load(photos.parent / "index"))
    rows = store.read(
        np.frombuffer(b"".join(k for k in keys if isinstance(k, bytes)), np.uint8).reshape(-1, 32)
    )
    expected = load_head(Path(board["head_file"])).probabilities(rows)
    found = [list(p["probabilities"].values()) for p in ran["predictions"]]
    # Other images fill the batches, and JSON has six digits.
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_predict_refuses_weights_that_are_not_the_heads(
    headstart: Command, heads: Command, photos: Path, tmp_path: Path
) -> None:
    head = heads(photos).json["head_file"]
    image = photos / "red" / "0.png"
    ran = headstart("predict", head, image, "--weights", "random")
    assert ran.code == 2
    assert "weights" in ran.err
    random = heads(photos, "--weights", "random", "--seed", "3").json["head_file"]
    assert headstart("predict", random, image).code == 0


def test_predict_prints_names_that_are_not_utf8(heads: Command, photos: Path) -> None:
    head = heads(photos).json["head_file"]
    name = os.fsencode(photos) + b"/red/caf\xe9.png"
    shutil.copy(photos / "red" / "0.png", name)
    ran = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "predict", head, name],
        capture_output=True, timeout=120, env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert name in ran.stdout


def test_names_cannot_steer_a_terminal_and_are_exact_in_a_file(
    headstart: Command, heads: Command, photos: Path, tmp_path: Path
) -> None:
    name = "\x1b[2Jx\n.png"
    (photos / "red" / "0.png").rename(photos / "red" / name)
    head = heads(photos).json["head_file"]
    table = headstart("predict", head, photos / "red" / name).out
    assert name in table, "a pipe gets names byte for byte"
    broken = tmp_path / "\x1b[31mbroken.png"
    broken.write_bytes(b"")
    told = headstart("predict", head, broken).err
    assert "\x1b" not in told
    assert "\\x1b[31mbroken.png" in told


def test_predict_refuses_what_is_no_head(headstart: Command, photos: Path, tmp_path: Path) -> None:
    image = photos / "red" / "0.png"
    for wrong in (image, tmp_path / "nowhere.head", tmp_path):
        ran = headstart("predict", wrong, image)
        assert ran.code == 2
        assert ran.err.count("\n") == 1
