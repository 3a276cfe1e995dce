"""What `headstart status` and `headstart verify` promise."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipeline.conftest import SMALL, Ran, paint

Command = Callable[..., Ran]


@pytest.fixture
def out(filled: Path) -> Path:
    return filled


def test_status_tells_what_the_cache_holds(headstart: Command, out: Path) -> None:
    features, facts = headstart("status", "--out", out, "--json").json["stores"]
    assert (features["rows"], features["dims"]) == (24, 1280)
    assert features["recipe"]["backbone"] == "efficientnet-lite0"
    assert features["provenance"]["keras"]
    assert facts["rows"] == 24
    assert (features["missing"], features["rejected"]) == (None, 0)
    text = headstart("status", "--out", out).out
    assert "backbone efficientnet-lite0" in text
    assert "size 32" in text
    assert "keras 3" in text


def test_status_counts_what_a_data_set_lacks(headstart: Command, out: Path, photos: Path) -> None:
    paint(photos / "red" / "new.png", seed=99)
    shutil.copy(photos / "red" / "new.png", photos / "red" / "same.png")
    (photos / "red" / "empty.png").touch()
    for store in headstart("status", photos, "--out", out, "--json").json["stores"]:
        assert (store["rows"], store["missing"]) == (24, 1)
    assert headstart("status", photos / "nowhere", "--out", out).code == 2


def test_verify_finds_nothing_in_a_whole_cache(headstart: Command, out: Path) -> None:
    ran = headstart("verify", "--out", out, "--json")
    assert ran.code == 0
    assert ran.json == {"shards": 2, "rows": 48, "findings": []}


def test_verify_finds_a_flipped_bit_and_the_next_run_heals_it(
    headstart: Command, out: Path, photos: Path
) -> None:
    (shard,) = out.glob("features/*/shards/*.h5")
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)
    ran = headstart("verify", "--out", out, "--json")
    assert ran.code == 1
    (finding,) = ran.json["findings"]
    assert finding["shard"] == shard.name
    healed = headstart("features", photos, *SMALL, "--out", out, "--json")
    assert healed.json["new"] == 24
    assert "set aside" in healed.err
    assert headstart("verify", "--out", out).code == 0


def test_verify_tells_of_a_store_that_cannot_be_opened_and_checks_the_others(
    headstart: Command, out: Path
) -> None:
    (recipe,) = out.glob("features/*/recipe.json")
    for damage in (lambda: recipe.write_text("{"), recipe.unlink):
        damage()
        ran = headstart("verify", "--out", out, "--json")
        assert ran.code == 1
        assert ran.json["shards"] == 1
        assert [finding["shard"] for finding in ran.json["findings"]] == ["recipe.json"]
        assert "cannot be opened" in headstart("status", "--out", out).out


def test_help_and_status_import_neither_tensorflow_nor_scikit_learn(out: Path) -> None:
    for arguments in (["--help"], ["status", "--out", str(out)]):
        spy = (
            "import sys; from pipeline import cli\n"
            f"sys.argv = {['headstart', *arguments]!r}\n"
            "try: cli.main()\n"
            "finally: print({'tensorflow', 'keras', 'sklearn', 'h5py'} & set(sys.modules),"
            " file=sys.stderr)"
        )
        ran = subprocess.run(
            [sys.executable, "-c", spy], capture_output=True, text=True, check=True, timeout=60
        )
        assert ran.stderr == "set()\n"


def test_a_folder_without_a_cache_is_told(headstart: Command, tmp_path: Path) -> None:
    assert headstart("status", "--out", tmp_path / "nowhere").code == 2
    assert "no stores yet" in headstart("status", "--out", tmp_path).out


def test_what_lies_in_a_store_that_is_not_ours_is_not_trusted(
    headstart: Command, out: Path, tmp_path: Path
) -> None:
    recipe = next(out.glob("features/*/recipe.json"))
    told = json.loads(recipe.read_text()) | {"provenance": {"x": "\x1b[2J"}}
    recipe.write_text(json.dumps(told))
    rejects = recipe.parent / "rejects.jsonl"
    rejects.write_text("[" * 100_000 + "\n")
    ran = headstart("status", "--out", out)
    assert ran.code == 0
    assert "\x1b" not in ran.out
    rejects.unlink()
    os.mkfifo(rejects)
    recipe.write_text(json.dumps(told | {"provenance": [1]}))
    assert headstart("status", "--out", out).code == 0
    rejects.unlink()
    rejects.symlink_to("/dev/zero")
    assert headstart("status", "--out", out).code == 0
