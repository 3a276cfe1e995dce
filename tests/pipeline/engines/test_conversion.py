from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.backbones import backbone, resolve_weights
from pipeline.engines import Output
from pipeline.engines.conversion import (
    Conversion,
    Converted,
    convert_apart,
    converted,
    keep,
)
from pipeline.errors import UsageError

LITE0 = backbone("efficientnet-lite0")
CONVERSION = Conversion(LITE0, resolve_weights(LITE0, "random"), 32, (Output(),))
MADE = Converted(b"<net/>", np.arange(200, dtype=np.uint8))


class Converter:
    """Keeps always the same, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, conversion: Conversion, folder: Path) -> None:
        self.calls += 1
        keep(conversion, folder, MADE)


def same(found: Converted) -> bool:
    return found.xml == MADE.xml and np.array_equal(found.weights, MADE.weights)


def test_it_is_converted_once(tmp_path: Path) -> None:
    convert = Converter()
    for _ in range(3):
        assert same(converted(CONVERSION, tmp_path / "converted", convert))
    assert convert.calls == 1
    (file,) = (tmp_path / "converted").glob("*.ov")
    assert file.name.startswith(f"{CONVERSION.stem}-")
    assert list((tmp_path / "converted" / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:100],
        lambda content: b"",
        lambda content: content[:50] + bytes([content[50] ^ 1]) + content[51:],
        lambda content: content + b"\0",
    ],
    ids=["cut off", "empty", "a flipped bit", "longer"],
)
def test_a_damaged_one_is_converted_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    convert = Converter()
    converted(CONVERSION, tmp_path, convert)
    (file,) = tmp_path.glob("*.ov")
    file.write_bytes(damage(file.read_bytes()))
    assert same(converted(CONVERSION, tmp_path, convert))
    assert same(converted(CONVERSION, tmp_path, convert))
    assert convert.calls == 2


def test_whatever_determines_the_network_is_in_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [
        replace(CONVERSION, size=64),
        replace(CONVERSION, outputs=(Output("top", "max"),)),
        replace(CONVERSION, outputs=(Output(), Output("top", "max"))),
        replace(CONVERSION, weights=resolve_weights(LITE0, "random", 1)),
        replace(CONVERSION, weights=replace(CONVERSION.weights, statistics_digest="0" * 64)),
        replace(CONVERSION, backbone=backbone("resnet50")),
    ]
    stems = {CONVERSION.stem, *(other.stem for other in others)}
    assert len(stems) == len(others) + 1
    assert replace(CONVERSION).stem == CONVERSION.stem
    monkeypatch.setattr("pipeline.engines.conversion.version", lambda name: "0")
    assert CONVERSION.stem not in stems


@pytest.mark.parametrize("source", ["random", "imagenet"])
def test_it_is_the_same_after_a_way_to_another_process(source: str) -> None:
    conversion = replace(CONVERSION, weights=resolve_weights(LITE0, source, 7))
    assert Conversion.parse(conversion.plain()) == conversion


def test_where_nothing_can_be_written_it_is_made_for_this_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    convert = Converter()
    for _ in range(2):
        assert same(converted(CONVERSION, tmp_path / "file" / "converted", convert))
    assert convert.calls == 2


def test_what_the_other_process_says_is_said_here(tmp_path: Path) -> None:
    unknown = replace(CONVERSION, outputs=(Output("no such layer"),))
    with pytest.raises(UsageError, match=r"cannot be converted .* has no layer 'no such layer'"):
        convert_apart(unknown, tmp_path)
    changed = replace(CONVERSION, weights=replace(resolve_weights(LITE0, "imagenet"), digest="0"))
    with pytest.raises(UsageError, match=r"the weight file .* changed while it was read"):
        convert_apart(changed, tmp_path)
    assert list(tmp_path.glob("*.ov")) == []
