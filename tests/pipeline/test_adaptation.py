"""What `--bn adapt` promises."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cache import FeatureStore
from pipeline.batchnorm.adapt import BYTES_PER_PIXEL
from tests.pipeline.conftest import SMALL, Ran, paint

Command = Callable[..., Ran]
ADAPT = (*SMALL, "--bn", "adapt", "--bn-images", "8")


def statistics(out: Path) -> list[Path]:
    return sorted(out.glob("adapted/*.safetensors"))


def test_adapted_features_are_others_in_a_store_of_their_own(
    headstart: Command, filled: Path, photos: Path
) -> None:
    ran = headstart("features", photos, *ADAPT, "--out", filled, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["new"] == 24
    store = FeatureStore.at(Path(ran.json["store"]))
    (plain,) = (f for f in filled.glob("features/*") if f != store.folder)
    (block,) = store.blocks()
    stored = FeatureStore.at(plain).read(block.keys)
    assert np.isfinite(block.features).all()
    assert np.abs(block.features - stored).max() > 0.1 * np.abs(stored).max()
    recipe = json.loads((store.folder / "recipe.json").read_text())["recipe"]
    assert recipe["bn"] == "adapt"
    assert len(recipe["bn_images"]) == 64
    again = headstart("features", photos, *ADAPT, "--out", filled, "--json").json
    assert (again["new"], again["store"]) == (0, ran.json["store"])
    mixed = headstart("features", photos, *ADAPT, "--bn-mix", 0.5, "--out", filled, "--json").json
    assert mixed["store"] not in (ran.json["store"], str(plain))
    none = headstart("features", photos, *ADAPT, "--bn-mix", 0, "--out", filled, "--json").json
    assert (none["new"], none["store"]) == (0, str(plain))


def test_images_that_come_or_change_their_label_start_no_other_store_until_it_is_asked_for(
    headstart: Command, photos: Path, tmp_path: Path
) -> None:
    run = ("features", photos, *ADAPT, "--out", tmp_path / "out", "--json")
    first = headstart(*run).json
    for i in range(6):
        paint(photos / "red" / f"new{i}.png", 500 + i)
    shutil.move(photos / "blue" / "0.jpg", photos / "red" / "0.jpg")
    then = headstart(*run).json
    assert (then["new"], then["store"]) == (6, first["store"])
    (chosen,) = (tmp_path / "out" / "adapted").glob("*.json")
    before = json.loads(chosen.read_text())
    refreshed = headstart(*run, "--bn-refresh").json
    changed = json.loads(chosen.read_text()) != before
    assert (refreshed["store"] != first["store"]) == changed


def test_no_image_of_the_test_split_is_adapted_to(
    headstart: Command, photos: Path, tmp_path: Path
) -> None:
    split = tmp_path / "split"
    shutil.copytree(photos, split / "train")
    for i in range(6):
        paint(split / "test" / "red" / f"{i}.png", 700 + i)
        paint(split / "test" / "blue" / f"{i}.png", 800 + i)
    # A copy of a test image among the training images is no way in.
    shutil.copy(split / "test" / "red" / "0.png", split / "train" / "red" / "copy.png")
    ran = headstart("features", split, *SMALL, "--bn", "adapt", "--out", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    (chosen,) = (tmp_path / "out" / "adapted").glob("*.json")
    from hashlib import sha256

    adapted = set(json.loads(chosen.read_text())["images"])
    trained = {sha256(f.read_bytes()).hexdigest() for f in photos.rglob("*.*")}
    assert adapted == trained


def test_a_head_predicts_by_the_statistics_it_was_trained_with_or_refuses(
    headstart: Command, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    heads = headstart("heads", photos, *ADAPT, "--heads", "logistic", "--out", out, "--json")
    assert heads.code == 0, heads.err
    head = Path(heads.json["head_file"])
    assert len([*head.parent.glob("*.safetensors")]) == 1
    predict = ("predict", head, photos / "red", photos / "blue", "--out", tmp_path / "elsewhere")
    ran = headstart(*predict, "--json")
    assert ran.code == 0, ran.err
    (beside,) = head.parent.glob("*.safetensors")
    beside.unlink()
    ran = headstart(*predict)
    assert ran.code == 2
    assert "BatchNorm statistics adapted to its images, and they are neither beside it" in ran.err
    assert headstart(*predict[:-1], out).code == 0


def test_damaged_statistics_are_made_again(
    headstart: Command, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = ("features", photos, *ADAPT, "--out", out, "--json")
    first = headstart(*run).json
    (file,) = statistics(out)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    for i in range(2):
        paint(photos / "red" / f"new{i}.png", 500 + i)
    then = headstart(*run).json
    assert (then["new"], then["store"]) == (2, first["store"])


def test_what_memory_does_not_hold_is_refused_with_the_number_that_it_does(
    headstart: Command, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.adaptation.memory_at_hand", lambda: 5 * 32**2 * BYTES_PER_PIXEL)
    ran = headstart("features", photos, *ADAPT, "--out", tmp_path / "out")
    assert ran.code == 2
    assert "--bn-images 5 would do" in ran.err


@pytest.mark.parametrize(
    ("painted", "flags", "told"),
    [
        ("one", SMALL, "1 image outside of test and holdout"),
        ("flat", SMALL, "is of a single colour"),
        (
            "flat",
            ("--backbone", "vgg16", "--weights", "random", "--size", "32"),
            "vgg16 has no BatchNorm layer",
        ),
    ],
)
def test_what_cannot_be_adapted_to_is_one_sentence(
    headstart: Command, tmp_path: Path, painted: str, flags: tuple[str, ...], told: str
) -> None:
    for i in range(1 if painted == "one" else 3):
        place = tmp_path / "data" / f"{i}.png"
        place.parent.mkdir(exist_ok=True)
        if painted == "flat":
            Image.new("RGB", (20, 20), (40 * i, 9, 9)).save(place)
        else:
            paint(place, i)
    ran = headstart(
        "features", tmp_path / "data", *flags, "--bn", "adapt", "--out", tmp_path / "out"
    )
    assert ran.code == 2
    assert told in ran.err
    assert ran.err.count("headstart: ") <= 2
    assert not [*tmp_path.glob("out/features/*/shards/*")]
