"""The head file: round trip, size, and what happens to files that are none."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from cache.recipe import FeatureRecipe
from pipeline.errors import UsageError
from pipeline.export import HeadError, HeadFile, HeadWeights, load_head, save_head
from pipeline.heads import FittedHead, HeadSpec, softmax
from pipeline.heads.fitted import CosineHead, LinearHead, MlpHead, NeighboursHead
from pipeline.heads.kernel import KernelHead, VotesHead

RNG = np.random.default_rng(0)
RECIPE = FeatureRecipe(
    backbone="resnet50",
    weights="ab" * 32,
    pooling="avg",
    size=224,
    resize="stretch",
    decode="pillow-1",
    preprocessing="caffe",
    precision="float32",
)


def normal(*shape: int) -> Any:
    return RNG.normal(size=shape).astype(np.float32)


def mlp(*units: int) -> MlpHead:
    pairs = list(pairwise(units))
    return MlpHead(tuple(normal(a, b) for a, b in pairs), tuple(normal(b) for _, b in pairs))


HEADS: list[FittedHead] = [
    LinearHead(normal(6, 3), normal(3)),
    mlp(6, 5, 4, 3),
    CosineHead(normal(3, 6)),
    NeighboursHead(normal(9, 6), RNG.integers(0, 3, 9).astype(np.int32), 2, 3),
    VotesHead(normal(6, 3), normal(3), np.arange(3, dtype=np.int32), 3),
    KernelHead(
        pool=normal(9, 6),
        support=np.array([0, 3, 8]),
        coefficients=normal(3, 3),
        intercept=normal(3),
        mean=normal(6),
        inverse=normal(6),
        gamma=np.float32(0.1),
        seen=np.arange(3, dtype=np.int32),
        n_classes=3,
    ),
]


def head_file(head: FittedHead, classes: tuple[str, ...] = ("cat", "dög", "\udcff")) -> HeadFile:
    return HeadFile(
        head=head,
        spec=HeadSpec("mlp", {"hidden": [5, 4], "dropout": 0.5}),
        classes=classes,
        recipe=RECIPE,
        weights=HeadWeights("file", "my.h5", 7),
        temperature=0.3,
        seed=11,
        scores={"metric": "accuracy", "score": 0.9, "std": None, "holdout": {"n": 4}},
        created="2030-01-02T03:04:05+00:00",
        versions={"numpy": "2.0"},
    )


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.kind)
def test_a_head_comes_back_as_it_went(head: FittedHead, tmp_path: Path) -> None:
    path = tmp_path / "a b.head"
    written = head_file(head)
    assert save_head(path, written) == path.stat().st_size
    back = load_head(path)
    rows = normal(7, 6)
    assert np.array_equal(back.logits(rows), written.logits(rows))
    for name, tensor in head.tensors().items():
        assert np.array_equal(back.head.tensors()[name], tensor)
    assert replace(back, head=head) == written
    assert back.dims == 6


def test_probabilities_are_divided_by_the_temperature(tmp_path: Path) -> None:
    file = head_file(HEADS[0])
    rows = normal(7, 6)
    assert np.allclose(file.probabilities(rows), softmax(file.logits(rows) / 0.3), atol=1e-6)
    assert file.probabilities(rows).dtype == np.float32


def test_the_same_head_gives_the_same_bytes_and_replaces_the_old(tmp_path: Path) -> None:
    one, two = tmp_path / "1.head", tmp_path / "2.head"
    two.write_bytes(b"old")
    for path in (one, two):
        save_head(path, head_file(HEADS[1]))
    assert one.read_bytes() == two.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1.head", "2.head"]


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "best.head"
    save_head(path, head_file(HEADS[0]))
    before = path.read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_head(path, head_file(HEADS[1]))
    assert [p.name for p in tmp_path.iterdir()] == ["best.head"]
    assert path.read_bytes() == before


def test_sizes_at_2048_features_and_10_classes(tmp_path: Path) -> None:
    names = tuple(f"class {i}" for i in range(10))
    path = tmp_path / "x.head"
    assert save_head(path, head_file(LinearHead(normal(2048, 10), normal(10)), names)) < 100_000
    assert save_head(path, head_file(mlp(2048, 256, 10), names)) < 3_000_000


def test_names_and_columns_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="2 names for 3"):
        head_file(HEADS[0], ("a", "b"))
    with pytest.raises(ValueError, match="temperature"):
        replace(head_file(HEADS[0]), temperature=0.0)


def test_opening_and_predicting_import_no_framework(tmp_path: Path) -> None:
    path = tmp_path / "x.head"
    save_head(path, head_file(HEADS[1]))
    program = (
        "import sys, numpy; from pathlib import Path; from pipeline.export import load_head;"
        "print(load_head(Path(sys.argv[1])).probabilities(numpy.zeros((2, 6))).shape);"
        "heavy = {'tensorflow', 'keras', 'sklearn', 'scipy', 'h5py', 'torch', 'jax'};"
        "sys.exit(str(heavy & {*sys.modules}) if heavy & {*sys.modules} else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "(2, 3)\n"), done.stderr


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(pairs: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in pairs:
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.head"
    save_head(path, head_file(HEADS[0]))
    return path


def refused(path: Path, told: str) -> None:
    with pytest.raises(HeadError, match=told) as caught:
        load_head(path)
    assert isinstance(caught.value, UsageError)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: f.update(schema=3), "newer headstart"),
        (lambda f: f.update(schema=True), "bool"),
        (lambda f: f.pop("classes"), "lacks 'classes'"),
        (lambda f: f.update(classes=["a", "b"]), "2 names for 3"),
        (lambda f: f.update(classes=["a", "a", "b"]), "names for 3"),
        (lambda f: f.update(classes=["a", 1, "b"]), "not a text"),
        (lambda f: f.update(kind="forest"), "forest"),
        (lambda f: f.update(kind="mlp"), "dense_0"),
        (lambda f: f.update(dims=7), "6 features"),
        (lambda f: f.update(temperature=-1.0), "temperature"),
        (lambda f: f.update(temperature="1"), "temperature"),
        (lambda f: f.update(tensors="00" * 32), "SHA-256"),
        (lambda f: f["recipe"].update(size=225), "recipe"),
        (lambda f: f["recipe"].update(size="224"), "size"),
        (lambda f: f["recipe"].update(colour="red"), "recipe"),
        (lambda f: f["recipe"].pop("backbone"), "backbone"),
        (lambda f: f["weights"].pop("source"), "source"),
        (lambda f: f["weights"].update(source="/etc/passwd"), "'/etc/passwd', not imagenet"),
    ],
)
def test_a_text_that_is_wrong_is_refused(change: Change, told: str, good: Path) -> None:
    parts = members(good)
    facts = json.loads(parts["head.json"])
    change(facts)
    text = json.dumps(facts).encode()
    good.write_bytes(zipped([("head.json", text), ("tensors.safetensors", [*parts.values()][1])]))
    refused(good, told)


def test_a_recipe_of_images_without_a_pixel_is_refused(tmp_path: Path) -> None:
    for size in (0, -224):
        path = tmp_path / f"{size}.head"
        save_head(path, replace(head_file(HEADS[0]), recipe=replace(RECIPE, size=size)))
        refused(path, f"of size {size}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "Expecting value"),
        (b"[1]", "not a JSON object"),
        (b'{"schema": NaN}', "NaN"),
        (b'{"schema": 1, "schema": 1}', "twice"),
        (b"[" * 200_000, "nested|Expecting"),
        (b'{"schema": ' + b"9" * 10_000 + b"}", "digits"),
        (b'{"schema": "\xff"}', "utf-8"),
    ],
)
def test_json_that_is_hostile_is_refused(text: bytes, told: str, good: Path) -> None:
    tensors = members(good)["tensors.safetensors"]
    good.write_bytes(zipped([("head.json", text), ("tensors.safetensors", tensors)]))
    refused(good, told)


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        (b"", "cannot be read"),
        ((1 << 62).to_bytes(8, "little") + b"{}", "header"),
        (save({"weight": normal(6, 3), "bias": normal(2)}), "bias"),
        (save({"weight": normal(6, 3).astype("f8"), "bias": normal(3)}), "float64"),
        (save({"weight": normal(6, 3) * np.float32(np.inf), "bias": normal(3)}), "finite"),
        (save({"weight": normal(6, 3)}), "bias"),
        (save({"weight": normal(6, 3), "bias": normal(3), "x": normal(1)}), "no tensor 'x'"),
        (save({"weight": normal(6, 3), "bias": normal(3)})[:-4], "cannot be read"),
    ],
)
def test_tensors_that_are_wrong_are_refused(tensors: bytes, told: str, good: Path) -> None:
    facts = json.loads(members(good)["head.json"])
    facts["tensors"] = hashlib.sha256(tensors).hexdigest()
    text = json.dumps(facts).encode()
    good.write_bytes(zipped([("head.json", text), ("tensors.safetensors", tensors)]))
    refused(good, told)


def test_zips_that_are_not_head_files_are_refused(good: Path) -> None:
    facts, tensors = members(good).items()
    cases = {
        "3 members": zipped([facts, tensors, ("more", b"")]),
        "1 members": zipped([facts]),
        "members are not": zipped([facts, ("../tensors.safetensors", tensors[1])]),
        "compressed": zipped([facts, (tensors[0], bytes(1 << 20))], zipfile.ZIP_DEFLATED),
        "too short": b"PK",
        "cut off": good.read_bytes()[:-30],
        "as a zip does": b"\x80\x04" + b"pickle" * 100,
    }
    for told, data in cases.items():
        good.write_bytes(data)
        refused(good, told)
    with pytest.warns(UserWarning, match="Duplicate"):
        good.write_bytes(zipped([facts, facts]))
    refused(good, "members are not")


def test_paths_that_are_no_files_are_refused_without_waiting(tmp_path: Path) -> None:
    refused(tmp_path, "regular file")
    os.mkfifo(tmp_path / "fifo.head")
    refused(tmp_path / "fifo.head", "regular file")
    with pytest.raises(HeadError, match="there is no head file"):
        load_head(tmp_path / "none.head")


def test_no_change_of_a_byte_gets_through_as_anything_but_a_clear_error(good: Path) -> None:
    data = good.read_bytes()
    whole = load_head(good)
    for position in range(0, len(data), 3):
        changed = bytearray(data)
        changed[position] ^= 0x41
        good.write_bytes(changed)
        try:
            loaded = load_head(good)
        except HeadError:
            continue
        # Dates and attributes of the zip's members mean nothing.
        assert replace(loaded, head=whole.head) == whole
        assert np.array_equal(loaded.head.tensors()["weight"], whole.head.tensors()["weight"])
    for length in range(0, len(data), 23):
        good.write_bytes(data[:length])
        with pytest.raises(HeadError):
            load_head(good)
