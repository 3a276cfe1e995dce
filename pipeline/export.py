"""The head file: what labels new images, as JSON and safetensors in one zip. Never a pickle.

``head.json`` holds everything but the numbers: schema, kind of head, classes, the recipe of the
features with its digest, where the weights came from, scores, settings, seed, temperature, and the
SHA-256 of ``tensors.safetensors``. Opening one runs nothing and needs neither scikit-learn nor
TensorFlow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cache.recipe import FeatureRecipe
from pipeline.errors import UsageError
from pipeline.heads.base import Features, FittedHead, HeadSpec, Tensors, softmax
from pipeline.heads.container import ContainerError, read_members, write_members
from pipeline.heads.restoring import restore

SCHEMA = 1
SOURCES = ("imagenet", "random", "file")

_T = TypeVar("_T")
_MAX_HEADER = 1 << 16


class HeadError(UsageError):
    """A file is not a head that this version can use; one sentence says why."""


@dataclass(frozen=True)
class HeadWeights:
    """Where the backbone's weights came from; their digest is in the recipe.

    Attributes
    ----------
    source
        ``"imagenet"``, ``"random"`` or ``"file"``.
    name
        Of the file, without its folder; empty where there is none.
    seed
        Of random weights.
    """

    source: str
    name: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        # Whatever else it said would be taken for a path, and read.
        if self.source not in SOURCES:
            raise ValueError(f"the weights are from {self.source!r:.40}, not {', '.join(SOURCES)}")


@dataclass(frozen=True, kw_only=True)
class HeadFile:
    """A fitted head with all it takes to use it rightly.

    Attributes
    ----------
    head
        The fitted head.
    spec
        Its name and settings.
    classes
        Names of the classes, one a column of the logits.
    recipe
        Of the features it takes.
    weights
        Where the backbone's weights came from.
    temperature
        Divides the logits to make probabilities.
    seed
        Of the sweep.
    scores
        What is known of how good it is; JSON values.
    created
        When, ISO 8601.
    versions
        Of libraries, by name.
    """

    head: FittedHead
    spec: HeadSpec
    classes: tuple[str, ...]
    recipe: FeatureRecipe
    weights: HeadWeights
    temperature: float = 1.0
    seed: int = 0
    scores: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.classes) != self.head.n_classes or len({*self.classes}) != len(self.classes):
            raise ValueError(f"{len(self.classes)} names for {self.head.n_classes} classes")
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ValueError(f"the temperature is {self.temperature}")

    @property
    def dims(self) -> int:
        """Length of the feature rows it takes."""
        return self.head.dims

    def logits(self, features: Features) -> NDArray[np.float32]:
        """Score ``(n, dims)`` rows of any float dtype: ``(n, classes)`` float32."""
        return self.head.logits(features)

    def probabilities(self, features: Features) -> NDArray[np.float32]:
        """Probability of each class: ``softmax(logits / temperature)``, float32."""
        return softmax(self.logits(features), self.temperature).astype(np.float32)


def save_head(path: Path, head_file: HeadFile) -> int:
    """Write a head file, whole or not at all, replacing what has this name.

    The same head gives the same bytes.

    Returns
    -------
    int
        Bytes of the file.

    Raises
    ------
    HeadError
        Where the head is larger than a head file can be (neighbours keep their rows).
    OSError
        Where it cannot be written.
    """
    from safetensors.numpy import save

    tensors = save({k: np.ascontiguousarray(v) for k, v in head_file.head.tensors().items()})
    facts = json.dumps(_facts(head_file, tensors), sort_keys=True, indent=1, allow_nan=False)
    try:
        write_members(path, facts.encode("ascii"), tensors)
    except ContainerError as error:
        raise HeadError(f"{path} cannot be written: {error}") from error
    return path.stat().st_size


def load_head(path: Path) -> HeadFile:
    """Read a head file, whoever made it.

    Time and memory are bounded by the size of the file; nothing in it is run.

    Raises
    ------
    HeadError
        Where there is no such file, or it is not a head file, is damaged, is inconsistent, or was
        written by a newer version.
    """
    try:
        facts, tensors = read_members(path)
        return _head_file(_parsed(facts), tensors)
    except FileNotFoundError as error:
        raise HeadError(f"there is no head file {path}") from error
    except OSError as error:
        raise HeadError(f"{path} cannot be read: {error.strerror}") from error
    except (ContainerError, ValueError) as error:
        raise HeadError(f"{path} is not a head file that can be used: {error}") from error


def _facts(head_file: HeadFile, tensors: bytes) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "kind": head_file.head.kind,
        "head": head_file.spec.head,
        "settings": head_file.spec.plain(),
        "classes": list(head_file.classes),
        "dims": head_file.dims,
        "recipe": json.loads(head_file.recipe.canonical()),
        "recipe_digest": head_file.recipe.digest,
        "weights": dataclasses.asdict(head_file.weights),
        "temperature": float(head_file.temperature),
        "seed": head_file.seed,
        "scores": dict(head_file.scores),
        "created": head_file.created,
        "versions": dict(head_file.versions),
        "tensors": hashlib.sha256(tensors).hexdigest(),
    }


def _head_file(facts: dict[str, Any], data: bytes) -> HeadFile:
    schema = _entry(facts, "schema", int)
    if schema > SCHEMA:
        raise ValueError(
            f"a newer headstart wrote it (schema {schema}, this one reads up to {SCHEMA}): update"
        )
    if hashlib.sha256(data).hexdigest() != _entry(facts, "tensors", str):
        raise ValueError("its tensors are not those that were saved with it (SHA-256 differs)")
    head = restore(_entry(facts, "kind", str), _tensors(data))
    if head.dims != _entry(facts, "dims", int):
        raise ValueError(f"its tensors take {head.dims} features and its text says otherwise")
    weights = _entry(facts, "weights", dict)
    return HeadFile(
        head=head,
        spec=HeadSpec(_entry(facts, "head", str), _entry(facts, "settings", dict)),
        classes=_texts(_entry(facts, "classes", list)),
        recipe=_recipe(_entry(facts, "recipe", dict), _entry(facts, "recipe_digest", str)),
        weights=HeadWeights(
            _entry(weights, "source", str),
            _entry(weights, "name", str),
            _entry(weights, "seed", int),
        ),
        temperature=_entry(facts, "temperature", float),
        seed=_entry(facts, "seed", int),
        scores=_entry(facts, "scores", dict),
        created=_entry(facts, "created", str),
        versions=_entry(facts, "versions", dict),
    )


def _entry(facts: dict[str, Any], name: str, kind: type[_T]) -> _T:
    """Take one entry of the JSON, of exactly this type (True is not an integer)."""
    if name not in facts:
        raise ValueError(f"its text lacks {name!r}")
    value = facts[name]
    if type(value) is not kind:
        raise ValueError(f"{name!r} is a {type(value).__name__}, expected a {kind.__name__}")
    return value


def _texts(values: list[Any]) -> tuple[str, ...]:
    if not all(isinstance(value, str) for value in values):
        raise ValueError("a name of a class is not a text")
    return tuple(values)


def _recipe(fields: dict[str, Any], digest: str) -> FeatureRecipe:
    """Build the recipe, which must have every field, each of its type, and the digest given."""
    known = {f.name: type(getattr(_ANY_RECIPE, f.name)) for f in dataclasses.fields(FeatureRecipe)}
    values = {name: _entry(fields, name, kind) for name, kind in known.items()}
    if values["size"] < 1:
        raise ValueError(f"the recipe of its features is for images of size {values['size']}")
    recipe = FeatureRecipe(**values)
    if json.loads(recipe.canonical()) != fields or recipe.digest != digest:
        raise ValueError("the recipe of its features is not one that this version knows")
    return recipe


_ANY_RECIPE = FeatureRecipe(
    backbone="",
    weights="",
    pooling="",
    size=0,
    resize="",
    decode="",
    preprocessing="",
    precision="",
)


def _parsed(text: bytes) -> dict[str, Any]:
    """JSON without what Python alone accepts: NaN, repeated keys, nesting without end."""
    try:
        facts = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("its text is nested too deeply") from error
    if not isinstance(facts, dict):
        raise ValueError("its text is not a JSON object")
    return facts


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("its text has a key twice")
    return mapping


def _no_constant(name: str) -> None:
    raise ValueError(f"its text has the number {name}")


def _tensors(data: bytes) -> Tensors:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if int.from_bytes(data[:8], "little") > _MAX_HEADER:
        raise ValueError("the header of its tensors is too large")
    try:
        return dict(load(data))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"its tensors cannot be read ({error})") from error
