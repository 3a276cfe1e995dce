"""Several backbones, sizes, layers and poolings in one pass, and shards, on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cache import FeatureStore
from tests.pipeline.conftest import SMALL, Ran

Command = Callable[..., Ran]


def test_one_pass_fills_a_store_for_each_of_the_product(
    headstart: Command, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    where = ("--backbone", "efficientnet-lite0", "--out", out)
    alone = headstart("features", photos, *where, "--size", "32", "--json").json
    several = ("--size", "32,40", "--pooling", "avg,max", "--layer", "top,block5c_add")
    made = headstart("features", photos, *where, *several, "--json").json
    assert made["store"] == made["stores"][0] == alone["store"]
    assert len(set(made["stores"])) == 8
    assert [each["new"] for each in made["made"]] == [0, *[24] * 7]
    assert (made["images"], made["new"], made["reused"]) == (24, 24, 0)
    for told in made["made"]:
        store = FeatureStore.at(Path(told["store"]))
        assert (store.rows, store.dims) == (24, told["dims"])
        assert told["dims"] == (1280 if told["layer"] == "top" else 112)
    by_hand = headstart(
        "features",
        photos,
        *where,
        "--size",
        "40",
        "--pooling",
        "max",
        "--layer",
        "block5c_add",
        "--json",
    ).json
    assert (by_hand["new"], by_hand["reused"]) == (0, 24)
    again = headstart("features", photos, *where, *several)
    assert again.out.count("\nstore ") == 8
    assert again.out.count("0 new, 24 reused") == 8
    assert re.search(r"40x40, stretch-bicubic, block5c_add, max pooling", again.out)


def test_several_backbones_share_one_decoding(
    headstart: Command, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.images import batches

    decoded: list[int] = []
    honest = batches.decode_all
    monkeypatch.setattr(batches, "decode_all", lambda *a: decoded.append(len(a[1])) or honest(*a))
    two = ("--backbone", "efficientnet-lite0,mobilenet", "--size", "32", "--weights", "random")
    made = headstart("features", photos, *two, "--out", tmp_path / "out", "--json").json
    assert [each["backbone"] for each in made["made"]] == ["efficientnet-lite0", "mobilenet"]
    assert [each["dims"] for each in made["made"]] == [1280, 1024]
    assert decoded == [1] * 24, "both inputs are resized alike, so once"


@pytest.mark.parametrize(
    "command", [("heads",), ("export-h5", "rows.npz"), ("verify", "--recompute", "2")]
)
def test_other_commands_take_one_at_a_time(
    command: tuple[str, ...], headstart: Command, photos: Path, tmp_path: Path
) -> None:
    verb, *rest = command
    flags = (*SMALL, "--pooling", "avg,max", "--out", tmp_path)
    ran = headstart(verb, photos, *rest, *flags)
    assert ran.code == 2
    assert "one backbone, size, layer and pooling at a time" in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    "flags, told",
    [
        (("--pooling", "avg,,max"), "empty place"),
        (("--pooling", "avg,mean"), "'mean' is not one of"),
        (("--size", "32,none"), "'none' is not a valid integer"),
        (("--backbone", "efficientnet-lite0,resnet5"), "resnet50"),
        (("--batch-size", "0"), "not in the range"),
        (("--shard", "0/4"), "--shard 0/4"),
        (("--shard", "five"), "write I/N"),
    ],
)
def test_a_wrong_list_or_shard_gets_one_sentence(
    flags: tuple[str, str], told: str, headstart: Command, photos: Path, tmp_path: Path
) -> None:
    ran = headstart("features", photos, *flags, "--out", tmp_path / "out")
    assert ran.code == 2
    assert told in ran.err
    assert "Traceback" not in ran.err


def test_shards_together_are_the_whole(headstart: Command, photos: Path, tmp_path: Path) -> None:
    flags = (*SMALL, "--out", tmp_path / "out", "--json")
    parts = [headstart("features", photos, *flags, "--shard", f"{i}/3").json for i in (1, 2, 3)]
    assert sum(part["new"] for part in parts) == sum(part["images"] for part in parts) == 24
    assert all(part["new"] for part in parts)
    whole = headstart("features", photos, *flags).json
    assert (whole["new"], whole["reused"]) == (0, 24)


def test_a_shard_may_be_empty(headstart: Command, photos: Path, tmp_path: Path) -> None:
    for image in sorted(photos.rglob("*.*g"))[1:]:
        image.unlink()
    flags = (*SMALL, "--out", tmp_path / "out")
    ran = [headstart("features", photos, *flags, "--json", "--shard", f"{i}/2") for i in (1, 2)]
    assert [part.code for part in ran] == [0, 0]
    assert sorted(json.loads(part.out)["images"] for part in ran) == [0, 1]
    assert "0 images: none new" in "".join(
        headstart("features", photos, *flags, "--shard", f"{i}/2").out for i in (1, 2)
    )
