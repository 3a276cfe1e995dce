"""A backbone converted for OpenVINO: made once, kept beside the store, checked when it is read.

A conversion is one file, ``<backbone>-<size>-<what it is of>-<SHA-256 of the file>.ov``:
OpenVINO's weights (uncompressed), its XML, and the length of the XML in 8 bytes, little endian. It
is disposable: one that does not have the digest in its name is removed and made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from cache.atomic import commit, write_at
from pipeline.backbones.registry import Backbone, backbone
from pipeline.backbones.weights import Weights
from pipeline.engines.base import Output
from pipeline.errors import UsageError

# Part of the digest: a converter that makes another graph is another version.
_RULE = "headstart-conversion-1"
_LENGTH = 8
_PATHS = ("path", "statistics")
# Digits of the two digests in a file's name.
_DIGITS = 32


class Converted(NamedTuple):
    """OpenVINO's own two parts of a model: its XML, and uint8 ``(bytes,)``, its weights."""

    xml: bytes
    weights: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Conversion:
    """What determines a converted network.

    Attributes
    ----------
    backbone, weights
        The network and its weights.
    size
        Side of the square input in pixels.
    outputs
        What one pass yields.
    """

    backbone: Backbone
    weights: Weights
    size: int
    outputs: tuple[Output, ...]

    @property
    def stem(self) -> str:
        """Start of the file's name: the same for what would be the same file."""
        parts = {
            "rule": _RULE,
            "backbone": self.backbone.name,
            "preprocessing": self.backbone.preprocessing,
            "weights": self.weights.digest,
            "size": self.size,
            "outputs": self.outputs,
            "versions": {name: version(name) for name in ("keras", "tensorflow", "openvino")},
        }
        if self.weights.statistics_digest:
            parts["statistics"] = self.weights.statistics_digest
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode("ascii")).hexdigest()
        return f"{self.backbone.name}-{self.size}-{digest[:_DIGITS]}"

    def plain(self) -> str:
        """All of it as JSON, for the process that converts."""
        return json.dumps(
            {
                "backbone": self.backbone.name,
                "weights": {
                    name: str(value) if isinstance(value, Path) else value
                    for name, value in asdict(self.weights).items()
                },
                "size": self.size,
                "outputs": self.outputs,
            }
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Make it of what `plain` gave."""
        parts = json.loads(text)
        weights = parts["weights"]
        paths = {name: Path(weights[name]) if weights[name] else None for name in _PATHS}
        return cls(
            backbone(parts["backbone"]),
            Weights(**weights | paths),
            parts["size"],
            tuple(Output(*output) for output in parts["outputs"]),
        )


def converted(
    conversion: Conversion, folder: Path, convert: Callable[[Conversion, Path], None]
) -> Converted:
    """Read a conversion, which is made first if it is not there or damaged.

    Where the folder cannot be written, it is made for this once.

    Parameters
    ----------
    folder
        Where conversions are kept.
    convert
        Makes the file; see `convert_apart`.

    Raises
    ------
    UsageError
        The network cannot be built or converted.
    OSError
        The file cannot be read.
    """
    found = _read(folder, conversion.stem)
    if found is None and not _writable(folder):
        with tempfile.TemporaryDirectory() as place:
            return converted(conversion, Path(place), convert)
    if found is None:
        convert(conversion, folder)
        found = _read(folder, conversion.stem)
    if found is None:
        raise UsageError(f"{folder} does not keep what is written to it")
    return found


def convert_apart(conversion: Conversion, folder: Path) -> None:
    """Convert in a process of its own, and keep the file.

    So TensorFlow converts whatever Keras is set to here, what it prints is not shown, and the
    memory it takes is given back. The working folder, where any file may be called as a module is,
    is no place to import from.

    Raises
    ------
    UsageError
        The network cannot be built or converted; the last line of the process says why.
    """
    settings = {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    ran = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-m", "pipeline.engines.convert", folder.absolute()],
        input=conversion.plain(),
        capture_output=True,
        text=True,
        env=os.environ | settings,
    )
    if ran.returncode:
        said = ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"]
        raise UsageError(f"{conversion.backbone.name} cannot be converted for OpenVINO: {said[-1]}")


def keep(conversion: Conversion, folder: Path, made: Converted) -> Path:
    """Write a conversion durably, whole or not at all.

    Raises
    ------
    CacheError
        It could not be written.
    """

    def fill(fd: int) -> None:
        weights = made.weights.nbytes
        write_at(fd, made.weights.data, 0)
        write_at(fd, made.xml + len(made.xml).to_bytes(_LENGTH, "little"), weights)

    tmp = folder / "tmp"
    tmp.mkdir(parents=True, exist_ok=True)
    return commit(tmp, folder, None, fill, lambda sha: f"{conversion.stem}-{sha[:_DIGITS]}.ov")


def _writable(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return os.access(folder, os.W_OK)


def _read(folder: Path, stem: str) -> Converted | None:
    for path in sorted(folder.glob(f"{stem}-*.ov")):
        content = np.fromfile(path, np.uint8)
        if path.stem.removeprefix(f"{stem}-") == hashlib.sha256(content.data).hexdigest()[:_DIGITS]:
            end = len(content) - _LENGTH
            start = end - int.from_bytes(content[end:].tobytes(), "little")
            return Converted(content[start:end].tobytes(), content[:start])
        path.unlink()
    return None
