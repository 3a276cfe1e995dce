"""Which engine and which precision, where the user leaves that open. Imports neither engine."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from pipeline.backbones.registry import Backbone
from pipeline.engines.openvino_engine import MISSING, has_bfloat16, installed
from pipeline.errors import UsageError

NVIDIA = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class Choice:
    """What runs a backbone.

    Attributes
    ----------
    engine
        ``"keras"`` or ``"openvino"``.
    why
        Why that one, as part of a sentence.
    precision
        What it computes in: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    """

    engine: str
    why: str
    precision: str


def choose(engine: str, precision: str, backbone: Backbone) -> Choice:
    """Fix the engine and the precision.

    ``auto`` takes Keras where there is a GPU that it can use, else OpenVINO where it is installed
    and computes in that precision, else Keras. As precision, it takes bfloat16 where OpenVINO runs,
    the processor has it and the backbone allows it, else float32.

    Parameters
    ----------
    engine
        ``"auto"``, ``"keras"`` or ``"openvino"``.
    precision
        ``"auto"`` or the name of one.

    Raises
    ------
    UsageError
        OpenVINO was asked for, and is not installed or does not compute in that precision here.
    """
    if engine == "keras":
        return Choice("keras", "as asked", "float32" if precision == "auto" else precision)
    if engine == "auto" and gpu():
        why = "the fastest with a GPU"
        return Choice("keras", why, "float32" if precision == "auto" else precision)
    if not installed():
        if engine == "openvino":
            raise UsageError(MISSING)
        why = 'OpenVINO, faster, comes with pip install "headstart[openvino]"'
        return Choice("keras", why, "float32" if precision == "auto" else precision)
    if precision == "auto":
        precision = "bfloat16" if backbone.bfloat16 and has_bfloat16() else "float32"
    lacking = _lacking(precision)
    if not lacking:
        why = "as asked" if engine == "openvino" else "the fastest on a processor"
        return Choice("openvino", why, precision)
    if engine == "openvino":
        raise UsageError(f"{lacking}: take another --precision, or --engine keras")
    return Choice("keras", lacking, precision)


def available() -> tuple[Choice, ...]:
    """List every engine and precision that runs here, but for Keras in lower ones on a processor.

    There Keras has no kernels for them that anybody would wait for.
    """
    lower = ["bfloat16", "float16"] if gpu() else []
    found = [Choice("keras", "it runs here", precision) for precision in ("float32", *lower)]
    if installed():
        precisions = [each for each in ("float32", "bfloat16") if not _lacking(each)]
        found += [Choice("openvino", "it runs here", precision) for precision in precisions]
    return tuple(found)


def gpu() -> bool:
    """Whether an NVIDIA GPU is here and the libraries that Keras' backends need for it.

    Told by the driver's and the libraries' presence: to ask a backend would cost its import.
    """
    return NVIDIA.exists() and any(one.name.startswith("nvidia-cudnn") for one in distributions())


def _lacking(precision: str) -> str:
    """Why OpenVINO does not compute in that precision here; empty if it does."""
    if precision == "float16":
        return "OpenVINO does not compute in float16 on a processor"
    if precision == "bfloat16" and not has_bfloat16():
        return "this processor has no bfloat16, which OpenVINO needs to compute in it"
    return ""
