"""Which weights a backbone gets: found, checked and named by a digest before any image is read."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import socket
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.backbones.random_weights import random_digest
from pipeline.backbones.registry import BUNDLED, Backbone
from pipeline.errors import UsageError, WeightsUnavailable

# Where Keras fetches from; asked first, so that a machine without a network is told at once.
_HOST = "https://storage.googleapis.com/tensorflow/keras-applications/"
_PATIENCE = 8.0


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of one backbone, fixed down to the bit.

    Attributes
    ----------
    source
        ``"imagenet"``, ``"random"`` or ``"file"``.
    digest
        SHA-256 of the file's bytes, 64 hex digits; of random weights, of the text that names their
        rule, backbone and seed.
    path
        The file; None for random weights.
    seed
        Seed of random weights; 0 otherwise.
    statistics, statistics_digest
        A file of adapted BatchNorm statistics that take the place of the weights' own, and the
        SHA-256 of its bytes; None and empty where there is none.
    """

    source: Literal["imagenet", "random", "file"]
    digest: str
    path: Path | None = None
    seed: int = 0
    statistics: Path | None = None
    statistics_digest: str = ""


def resolve_weights(backbone: Backbone, source: str = "imagenet", seed: int = 0) -> Weights:
    """Find the weights asked for, and hash them.

    Keras is imported only where ImageNet weights have to be fetched.

    Parameters
    ----------
    backbone
        The network that will carry them.
    source
        ``"imagenet"``, ``"random"``, or the path of a weight file (``./random`` for a file that is
        called so).
    seed
        Seed of random weights, at least 0.

    Raises
    ------
    WeightsUnavailable
        ImageNet weights that are neither on disk nor reachable; the text has the remedies.
    UsageError
        A file that is not there or cannot be read, or a negative seed.
    """
    if source == "random":
        if seed < 0:
            raise UsageError(f"the seed of random weights must not be negative, not {seed}")
        return Weights("random", random_digest(backbone.name, seed), seed=seed)
    if source == "imagenet":
        path = _installed(backbone) if backbone.bundled else _imagenet_file(backbone)
        return Weights("imagenet", file_digest(path), path)
    path = Path(source)
    if not path.is_file():
        raise UsageError(
            f"no weight file {source!r}: --weights takes imagenet, random or the path of a file"
        )
    try:
        return Weights("file", file_digest(path), path)
    except OSError as error:
        raise UsageError(f"the weight file {source!r} cannot be read: {error.strerror}") from error


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Digest of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _installed(backbone: Backbone) -> Path:
    """Path of a weight file inside an installed package, which is found but not imported."""
    package, inside = BUNDLED[backbone.name]
    spec = importlib.util.find_spec(package)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(place) / inside).is_file():
            return path
    raise WeightsUnavailable(
        f"the ImageNet weights of {backbone.name} come inside the package "
        f"{package.replace('_', '-')}, which is not installed: install it, "
        "name the weight file with --weights FILE, or take another --backbone"
    )


def _imagenet_file(backbone: Backbone) -> Path:
    """Keras' own file: from its cache if it is there and whole, else fetched by Keras."""
    damaged = None
    for folder in _keras_caches():
        path = folder / "models" / backbone.weights_file
        if path.is_file():
            if _is_genuine(path, backbone):
                return path
            damaged = path
    reason = _fetch(backbone)
    if reason is None:
        for folder in _keras_caches():
            path = folder / "models" / backbone.weights_file
            if path.is_file() and _is_genuine(path, backbone):
                return path
        reason = "Keras fetched it to no place known here"
    if damaged:
        reason = f"{damaged} is damaged (its hash is not Keras'), and {reason}"
    raise WeightsUnavailable(_remedies(backbone, reason))


def _is_genuine(path: Path, backbone: Backbone) -> bool:
    """Whether the file has the hash that Keras expects; true where Keras itself expects none."""
    expected = backbone.weights_hash
    if not expected:
        return True
    return file_digest(path, "sha256" if len(expected) == 64 else "md5") == expected


def _keras_caches() -> Iterator[Path]:
    """Folders where Keras keeps what it fetched, by its own rule."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras").expanduser()
    yield home
    if not os.access(home, os.W_OK):
        yield (Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())) / ".keras"


def _remedies(backbone: Backbone, reason: str) -> str:
    return (
        f"the ImageNet weights of {backbone.name} are not on this machine and could not be fetched "
        f"({reason}). Either run this once with a network, so that Keras can fetch "
        f"{backbone.weights_file}; or name a copy of that file with --weights FILE; or take "
        "weights that are installed with --backbone efficientnet-lite0. "
        "(--weights random is for tests only.)"
    )


def _fetch(backbone: Backbone) -> str | None:
    """Have Keras fetch the file and check its hash: None, or why that failed."""
    if not _answers(_HOST, _PATIENCE):
        return f"{_HOST.split('/')[2]} does not answer"
    from pipeline.backbones.quiet import import_keras

    keras = import_keras()
    builder = getattr(keras.applications, backbone.builder.rsplit(".", 1)[1])
    before = socket.getdefaulttimeout()
    # Keras sets no timeout and shows its progress on standard output, which is for results.
    socket.setdefaulttimeout(_PATIENCE)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            builder(weights="imagenet", include_top=False, input_shape=(224, 224, 3))
    except Exception as error:  # Keras raises plain Exception here
        return str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    finally:
        socket.setdefaulttimeout(before)
    return None


def _answers(url: str, seconds: float) -> bool:
    """Whether anything at all answers at that address, proxies of the environment respected."""
    answered = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=seconds).close()
        except urllib.error.HTTPError:
            answered.set()
        except (OSError, ValueError):
            return
        answered.set()

    # Looking up a name knows no timeout, so it must not be waited for without one.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answered.is_set()
