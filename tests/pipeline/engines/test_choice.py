from __future__ import annotations

import re
from dataclasses import replace

import pytest

from pipeline.backbones import backbone
from pipeline.engines import choice
from pipeline.engines.choice import choose
from pipeline.errors import UsageError

PLAIN = backbone("resnet50")
TOLERANT = replace(PLAIN, bfloat16=True)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """OpenVINO, bfloat16, no GPU."""
    machine_with(monkeypatch)
    return monkeypatch


def machine_with(
    monkeypatch: pytest.MonkeyPatch, *, openvino: bool = True, bf16: bool = True, gpu: bool = False
) -> None:
    monkeypatch.setattr(choice, "installed", lambda: openvino)
    monkeypatch.setattr(choice, "has_bfloat16", lambda: bf16)
    monkeypatch.setattr(choice, "gpu", lambda: gpu)


@pytest.mark.parametrize(
    ("openvino", "bf16", "gpu", "expected"),
    [
        (True, True, False, ("openvino", "bfloat16")),
        (True, False, False, ("openvino", "float32")),
        (False, True, False, ("keras", "float32")),
        (True, True, True, ("keras", "float32")),
    ],
)
def test_auto_takes_what_the_machine_has(
    monkeypatch: pytest.MonkeyPatch,
    openvino: bool,
    bf16: bool,
    gpu: bool,
    expected: tuple[str, str],
) -> None:
    machine_with(monkeypatch, openvino=openvino, bf16=bf16, gpu=gpu)
    chosen = choose("auto", "auto", TOLERANT)
    assert (chosen.engine, chosen.precision) == expected
    assert chosen.why


def test_bfloat16_is_no_default_where_heads_notice(machine: pytest.MonkeyPatch) -> None:
    assert choose("auto", "auto", PLAIN).precision == "float32"
    assert choose("auto", "bfloat16", PLAIN).precision == "bfloat16"
    assert choose("keras", "auto", TOLERANT).precision == "float32"


def test_auto_goes_to_keras_for_what_openvino_cannot(machine: pytest.MonkeyPatch) -> None:
    half = choose("auto", "float16", PLAIN)
    assert (half.engine, half.precision) == ("keras", "float16")
    machine_with(machine, bf16=False)
    brain = choose("auto", "bfloat16", PLAIN)
    assert (brain.engine, brain.precision) == ("keras", "bfloat16")
    assert "no bfloat16" in brain.why


def test_what_was_asked_for_is_never_replaced(machine: pytest.MonkeyPatch) -> None:
    assert choose("keras", "bfloat16", PLAIN).engine == "keras"
    with pytest.raises(UsageError, match="does not compute in float16"):
        choose("openvino", "float16", PLAIN)
    machine_with(machine, bf16=False)
    with pytest.raises(UsageError, match="this processor has no bfloat16"):
        choose("openvino", "bfloat16", PLAIN)
    machine_with(machine, openvino=False)
    with pytest.raises(UsageError, match=re.escape('pip install "headstart[openvino]"')):
        choose("openvino", "float32", PLAIN)


def test_asking_the_machine_itself_gives_an_answer() -> None:
    assert choice.gpu() in (True, False)
    assert choose("auto", "auto", PLAIN).engine in ("keras", "openvino")
