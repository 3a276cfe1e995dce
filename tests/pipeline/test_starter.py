"""What `headstart init` promises."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.heads import HeadSpec, default_specs
from pipeline.starter import starter_toml
from pipeline.sweepfile import read_sweepfile
from tests.pipeline.conftest import Ran
from tests.pipeline.test_sweepfile import configured

Command = Callable[..., Ran]


def specs_of(path: Path) -> tuple[HeadSpec, ...]:
    return tuple(HeadSpec(e.head, e.settings) for e in read_sweepfile(str(path)).entries)


def test_what_it_writes_is_the_default_sweep(headstart: Command, tmp_path: Path) -> None:
    ran = headstart("init", tmp_path)
    assert ran.code == 0
    path = tmp_path / "heads.toml"
    assert f"--config {path}" in ran.out
    assert specs_of(path) == default_specs()
    assert [s.name for s in specs_of(path)] == [s.name for s in default_specs()]
    config, usual = configured("d", "--config", path), configured("d")
    assert (config.features, config.metric, config.folds) == (
        usual.features, usual.metric, usual.folds,
    )  # fmt: skip
    assert (config.holdout, config.groups, config.budget) == (
        usual.holdout, usual.groups, usual.budget,
    )  # fmt: skip


def test_what_is_commented_out_can_be_said_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "all.toml"
    path.write_text(re.sub(r"(?m)^# (\w+ = )", r"\1", starter_toml()), encoding="utf-8")
    config, usual = configured("--config", path), configured("photos", "--backbone", "resnet50")
    assert config.features == usual.features
    for said, default in zip(specs_of(path), default_specs(), strict=True):
        assert said.settings.items() >= default.settings.items()


def test_grids_with_parts_in_common_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = (
        *(HeadSpec("logistic", {"C": c, "tol": 1e-3}) for c in (0.1, 1.0)),
        *(HeadSpec("logistic", {"C": c, "tol": 1e-4}) for c in (10.0, 100.0)),
        HeadSpec("logistic", {"C": 7.0}),
        HeadSpec("mlp", {"hidden": (512, 256)}),
    )
    monkeypatch.setattr("pipeline.starter.default_specs", lambda: specs)
    text = starter_toml()
    assert text.count("[[heads]]") == 1 + 4  # once in the comment above them
    assert text.count("C = [") == 2


def test_nothing_is_overwritten(headstart: Command, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    assert headstart("init", path, "--json").json == {"file": str(path)}
    path.write_text("mine", encoding="utf-8")
    ran = headstart("init", path)
    assert (ran.code, ran.out) == (2, "")
    assert "not overwritten" in ran.err
    assert path.read_text(encoding="utf-8") == "mine"


def test_a_place_that_cannot_be_written_is_told(headstart: Command, tmp_path: Path) -> None:
    ran = headstart("init", tmp_path / "none" / "heads.toml")
    assert ran.code == 2
    assert "cannot be written" in ran.err
