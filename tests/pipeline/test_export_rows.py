"""What `headstart export-h5` promises."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from cache import FeatureStore
from tests.pipeline.conftest import SMALL, Ran

Command = Callable[..., Ran]


def test_features_with_all_that_is_known_of_them_are_one_file(
    headstart: Command, filled: Path, photos: Path, tmp_path: Path
) -> None:
    path = tmp_path / "features.h5"
    ran = headstart("export-h5", photos, path, *SMALL, "--out", filled, "--json")
    assert ran.code == 0, ran.err
    told = ran.json
    assert (told["rows"], told["dims"], told["new"]) == (24, 1280, 0)
    store = FeatureStore.at(Path(told["store"]))
    with h5py.File(path) as file:
        assert sorted(file) == sorted(told["columns"])
        assert file["features"].shape == (24, 1280)
        assert np.array_equal(file["features"][:], store.read(file["key"][:]))
        names = file["classes"].asstr()[:][file["labels"][:]]
        paths = [Path(text) for text in file["paths"].asstr()[:]]
        assert [path.parent.name for path in paths] == names.tolist()
        assert all(path.exists() for path in paths)
        assert json.loads(file.attrs["recipe"])["backbone"] == "efficientnet-lite0"
        assert set(file["split"].asstr()[:]) == {"train", "test"}
        assert "holdout" in file.attrs["split_rule"]
        assert "groups" not in file
    text = headstart("export-h5", photos, tmp_path / "f.npz", *SMALL, "--out", filled).out
    assert "24 rows x 1280" in text


def test_groups_and_a_split_of_the_users_are_kept(
    headstart: Command, filled: Path, photos: Path, tmp_path: Path
) -> None:
    table = tmp_path / "list.csv"
    files = sorted(photos.rglob("*.*g"))
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "group", "split"])
        writer.writerows(
            [p, p.parent.name, f"g{i // 2}", ["train", "val"][i % 2]] for i, p in enumerate(files)
        )
    path = tmp_path / "features.h5"
    assert headstart("export-h5", table, path, *SMALL, "--out", filled).code == 0
    with h5py.File(path) as found:
        assert found["groups"].asstr()[:].tolist() == [f"g{i // 2}" for i in range(24)]
        assert found["split"].asstr()[:].tolist() == ["train", "val"] * 12
        assert found.attrs["split_rule"] == "the data set's own"


def test_images_without_labels_are_exported_without(
    headstart: Command, filled: Path, photos: Path, tmp_path: Path
) -> None:
    path = tmp_path / "features.h5"
    assert headstart("export-h5", photos / "red", path, *SMALL, "--out", filled).code == 0
    with h5py.File(path) as found:
        assert sorted(found) == ["features", "key", "paths"]


def test_a_wrong_suffix_is_told_before_anything_is_computed(
    headstart: Command, photos: Path, tmp_path: Path
) -> None:
    ran = headstart("export-h5", photos, tmp_path / "f.csv", *SMALL, "--out", tmp_path / "out")
    assert ran.code == 2
    assert ".npz" in ran.err
    assert not (tmp_path / "out").exists()
