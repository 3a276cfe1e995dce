"""What `--engine` and `--precision` promise, through the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache import FeatureStore
from pipeline.backbones import registry
from pipeline.engines.choice import Choice
from tests.pipeline.conftest import SMALL, Ran, paint

Command = Callable[..., Ran]


def rows_of(made: dict[str, str]) -> np.ndarray:
    (block,) = FeatureStore.at(Path(made["store"])).blocks()
    return block.features[np.lexsort(block.keys.T)]


@pytest.fixture
def in_bfloat16(headstart: Command, filled: Path, photos: Path) -> dict[str, str]:
    """What `features` told of a second store beside that of `filled`, in bfloat16."""
    return headstart(
        "features", photos, *SMALL, "--out", filled, "--json", "--precision", "bfloat16"
    ).json


def test_precision_is_part_of_the_recipe_and_the_engine_is_not(
    in_bfloat16: dict[str, str], filled: Path
) -> None:
    assert (in_bfloat16["precision"], in_bfloat16["engine"], in_bfloat16["new"]) == (
        "bfloat16", "keras", 24,
    )  # fmt: skip
    stores = {}
    for folder in (filled / "features").iterdir():
        written = json.loads((folder / "recipe.json").read_text())
        assert "engine" not in written["recipe"]
        assert written["provenance"]["engine"] == "keras"
        stores[written["recipe"]["precision"]] = {"store": str(folder)}
    exact, rounded = rows_of(stores["float32"]), rows_of(stores["bfloat16"])
    part = np.abs(exact - rounded).max() / np.abs(exact).max()
    assert 1e-3 < part < 0.3


def test_auto_goes_on_with_a_complete_store_in_the_other_precision(
    headstart: Command, photos: Path, tmp_path: Path
) -> None:
    command = ("features", photos, *SMALL, "--out", tmp_path / "other", "--json")
    made = headstart(*command, "--precision", "bfloat16").json
    again = headstart(*command)
    assert "going on with the complete store in bfloat16" in again.err
    assert (again.json["new"], again.json["store"]) == (0, made["store"])
    # A store that lacks one image is not gone on with, and a precision that is named is kept to.
    paint(photos / "red" / "one-more.png", seed=50)
    assert headstart(*command).json["precision"] == "float32"
    (photos / "red" / "one-more.png").unlink()
    assert headstart(*command, "--precision", "bfloat16").json["store"] == made["store"]
    both = headstart(*command)
    assert both.json["precision"] == "float32"
    assert "going on" not in both.err


def test_what_was_computed_in_bfloat16_is_checked_against_float32(
    headstart: Command, in_bfloat16: dict[str, str], filled: Path, photos: Path
) -> None:
    check = ("verify", photos, *SMALL, "--out", filled, "--recompute", 100, "--json")
    ran = headstart(*check, "--precision", "bfloat16")
    assert ran.code == 0, ran.err
    told = ran.json["recomputed"]
    assert told["store"] == in_bfloat16["store"]
    assert 1e-3 < told["largest_deviation"] < told["tolerance"]
    assert headstart(*check).json["recomputed"]["tolerance"] == 1e-3


def test_a_head_computes_in_the_precision_it_was_trained_on(
    headstart: Command, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--out", tmp_path / "out", "--heads", "ridge", "--precision", "bfloat16", "--json")
    trained = headstart("heads", photos, *SMALL, *flags).json
    asked = []

    def spy(engine: str, precision: str, backbone: registry.Backbone) -> Choice:
        asked.append(precision)
        return Choice("keras", "as asked", precision)

    monkeypatch.setattr("pipeline.assemble.choose", spy)
    labelled = headstart("predict", trained["head_file"], photos / "red", "--json")
    assert labelled.code == 0, labelled.err
    assert asked == ["bfloat16"]


def test_the_summary_tells_the_engine_and_why(
    headstart: Command, photos: Path, tmp_path: Path
) -> None:
    command = ("features", photos, *SMALL, "--out", tmp_path / "out")
    first = headstart(*command)
    assert "engine     keras (OpenVINO, faster, comes with pip install" in first.out
    assert "engine " not in headstart(*command).out
    assert headstart(*command, "--json").json["engine_why"].startswith("OpenVINO, faster")


def test_an_engine_that_is_not_installed_gets_one_sentence(
    headstart: Command, photos: Path, tmp_path: Path
) -> None:
    ran = headstart("features", photos, *SMALL, "--out", tmp_path / "out", "--engine", "openvino")
    assert ran.code == 2
    assert ran.err == (
        "headstart: the OpenVINO engine is not installed: "
        'pip install "headstart[openvino]"\n'
    )  # fmt: skip


def test_features_of_openvino_are_those_of_keras(
    headstart: Command, filled: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("pipeline.engines.choice.installed", lambda: True)
    command = ("features", photos, *SMALL, "--json", "--engine", "openvino", "--out")
    assert headstart(*command, filled).json["new"] == 0
    ran = headstart(*command, tmp_path / "other")
    made = ran.json
    assert (made["new"], made["engine"]) == (24, "openvino")
    assert ran.err.count("converting the network for OpenVINO") == 1
    assert len(list((tmp_path / "other" / "converted").glob("*.ov"))) == 1
    (folder,) = (filled / "features").iterdir()
    assert folder.name == Path(made["store"]).name
    exact = rows_of({"store": str(folder)})
    assert np.abs(rows_of(made) - exact).max() < 1e-4 * np.abs(exact).max()
    shutil.rmtree(folder := Path(made["store"]))
    ran = headstart(*command, tmp_path / "other")
    assert (ran.json["new"], Path(ran.json["store"])) == (24, folder)
    assert "converting" not in ran.err
    told = headstart(
        "verify", photos, *SMALL, "--out", tmp_path / "other", "--recompute", 100, "--json"
    )
    assert told.json["recomputed"]["deviations"] == []


def test_no_backbone_computes_in_bfloat16_unasked_unless_it_was_measured() -> None:
    assert not [row.name for row in registry.BACKBONES.values() if row.bfloat16]
