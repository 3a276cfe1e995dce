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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.recipe import FeatureRecipe
from pipeline.errors import UsageError
from pipeline.evaluate import mean_logits, softmax
from pipeline.heads.base import Features, FittedHead, HeadSpec, Tensors
from pipeline.heads.container import ContainerError, read_members, write_members
from pipeline.heads.restoring import restore
from pipeline.headviews import HeadViews
from pipeline.strictjson import entry, parsed, texts

SCHEMA = 2
SOURCES = ("imagenet", "random", "file")

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
    views
        The augmented views that it was trained on; None where it saw plain images alone.
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
    views: HeadViews | None = None

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

    def probabilities(self, features: Features, views: int = 1) -> NDArray[np.float32]:
        """Probability of each class: ``softmax(logits / temperature)``, float32 ``(n, classes)``.

        Of several views of each image, which are ``n * views`` rows, an image's together: of the
        `mean_logits` over them.
        """
        logits: NDArray[np.floating[Any]] = self.logits(features)
        if views > 1:
            logits = mean_logits(logits.reshape(-1, views, logits.shape[1]).swapaxes(0, 1))
        return softmax(logits, self.temperature).astype(np.float32)


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
        return _head_file(parsed(facts), tensors)
    except FileNotFoundError as error:
        raise HeadError(f"there is no head file {path}") from error
    except OSError as error:
        raise HeadError(f"{path} cannot be read: {error.strerror}") from error
    except (ContainerError, ValueError) as error:
        raise HeadError(f"{path} is not a head file that can be used: {error}") from error


def _facts(head_file: HeadFile, tensors: bytes) -> dict[str, Any]:
    return {
        # Versions that know no views would label by plain images what is to be averaged.
        "schema": SCHEMA if (views := head_file.views) and views.averaged else 1,
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
    } | ({"views": views.plain()} if views else {})


def _head_file(facts: dict[str, Any], data: bytes) -> HeadFile:
    schema = entry(facts, "schema", int)
    if schema > SCHEMA:
        raise ValueError(
            f"a newer headstart wrote it (schema {schema}, this one reads up to {SCHEMA}): update"
        )
    if hashlib.sha256(data).hexdigest() != entry(facts, "tensors", str):
        raise ValueError("its tensors are not those that were saved with it (SHA-256 differs)")
    head = restore(entry(facts, "kind", str), _tensors(data))
    if head.dims != entry(facts, "dims", int):
        raise ValueError(f"its tensors take {head.dims} features and its text says otherwise")
    weights = entry(facts, "weights", dict)
    return HeadFile(
        head=head,
        spec=HeadSpec(entry(facts, "head", str), entry(facts, "settings", dict)),
        classes=texts(entry(facts, "classes", list)),
        recipe=_recipe(entry(facts, "recipe", dict), entry(facts, "recipe_digest", str)),
        weights=HeadWeights(
            entry(weights, "source", str),
            entry(weights, "name", str),
            entry(weights, "seed", int),
        ),
        temperature=entry(facts, "temperature", float),
        seed=entry(facts, "seed", int),
        scores=entry(facts, "scores", dict),
        created=entry(facts, "created", str),
        versions=entry(facts, "versions", dict),
        views=HeadViews.parse(entry(facts, "views", dict)) if "views" in facts else None,
    )


def _recipe(fields: dict[str, Any], digest: str) -> FeatureRecipe:
    """Build the recipe, which must have every field, each of its type, and the digest given."""
    known = {f.name: type(getattr(_ANY_RECIPE, f.name)) for f in dataclasses.fields(FeatureRecipe)}
    values = {name: entry(fields, name, kind) for name, kind in known.items()}
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


def _tensors(data: bytes) -> Tensors:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if int.from_bytes(data[:8], "little") > _MAX_HEADER:
        raise ValueError("the header of its tensors is too large")
    try:
        return dict(load(data))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"its tensors cannot be read ({error})") from error
