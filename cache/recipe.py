"""What identifies a feature besides its image: every choice that changes a number.

A recipe is the key of a store. Two recipes that differ in any field are two stores; whatever is
not a field (library versions, engine, machine, time) is provenance, recorded and never compared.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from cache.errors import DamagedRecipe, RecipeError

FORMAT_VERSION = 1

StorageDtype = Literal["float32", "float16", "uint8"]


class Recipe(Protocol):
    """What a store needs to know of a recipe."""

    @property
    def dtype(self) -> StorageDtype:
        """Storage dtype of the rows."""

    @property
    def name(self) -> str:
        """Name of the store's folder; ends with eight digits of the digest."""

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, 64 hex digits."""

    def canonical(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, ASCII."""


class _Canonical:
    """Canonical JSON and digest of a frozen dataclass of plain values."""

    def canonical(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, ASCII."""
        fields = {"kind": type(self).__name__} | dataclasses.asdict(self)  # type: ignore[call-overload]
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii")

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, 64 hex digits."""
        return hashlib.sha256(self.canonical()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class FeatureRecipe(_Canonical):
    """Recipe of one matrix of features.

    Attributes
    ----------
    backbone, weights
        Name of the network and SHA-256 (hex) of its weights.
    layer, pooling
        Where the network is cut (``"top"``: after its last feature map) and how the map becomes a
        row.
    size, resize, decode
        Side of the square input in pixels, rule of resizing, name of the decoding rule.
    preprocessing
        Name of the rule from pixels to the network's input.
    precision, dtype
        Precision the network computes in, and dtype the rows are stored in.
    bn, bn_images
        BatchNorm statistics: ``"stored"`` or ``"adapt"``, and for the latter the digest of the
        images they were re-estimated on.
    augment, augment_seed
        Policy of augmented views and its seed; ``"none"`` for the plain image.
    """

    backbone: str
    weights: str
    layer: str = "top"
    pooling: str
    size: int
    resize: str
    decode: str
    preprocessing: str
    precision: str
    dtype: StorageDtype = "float32"
    bn: str = "stored"
    bn_images: str = ""
    augment: str = "none"
    augment_seed: int = 0
    version: int = FORMAT_VERSION

    @property
    def name(self) -> str:
        """``<backbone>-<pooling>-<size>-<digest8>``."""
        return f"{self.backbone}-{self.pooling}-{self.size}-{self.digest[:8]}"


@dataclass(frozen=True, kw_only=True)
class FactsRecipe(_Canonical):
    """Recipe of the facts that decoding an image tells: rows of bytes, laid out by ``layout``."""

    decode: str
    layout: str
    dtype: StorageDtype = "uint8"
    version: int = FORMAT_VERSION

    @property
    def name(self) -> str:
        """``facts-<layout>-<digest8>``."""
        return f"facts-{self.layout}-{self.digest[:8]}"


@dataclass(frozen=True)
class StoredRecipe:
    """A recipe of a kind that this version has no class for, as it was found in a store.

    Attributes
    ----------
    fields
        What the recipe's canonical JSON holds.
    name
        Name of the folder it was found in.
    """

    fields: Mapping[str, Any]
    name: str

    @property
    def dtype(self) -> StorageDtype:
        """Storage dtype of the rows."""
        dtype: StorageDtype = self.fields["dtype"]
        return dtype

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, 64 hex digits."""
        return hashlib.sha256(self.canonical()).hexdigest()

    def canonical(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, ASCII."""
        return json.dumps(dict(self.fields), sort_keys=True, separators=(",", ":")).encode("ascii")


def parse_recipe(text: bytes, name: str) -> Recipe:
    """Read a recipe back from ``{"recipe": fields, "digest": ..., ...}``, the text of recipe.json.

    Parameters
    ----------
    text
        Content of recipe.json.
    name
        Name of the store's folder, for a kind of recipe that has no class here.

    Returns
    -------
    Recipe
        Whose digest is the one in the text.

    Raises
    ------
    DamagedRecipe
        Not such a text, or one that was changed.
    RecipeError
        Of a newer format.
    """
    try:
        whole = json.loads(text)
        fields, digest = dict(whole["recipe"]), whole["digest"]
        version, dtype = fields["version"], fields["dtype"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedRecipe(f"not a recipe: {error!r:.80}") from error
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise RecipeError(
            f"the store has format {version!r:.20} and this version of Headstart reads up to "
            f"{FORMAT_VERSION}: use the newer version of Headstart"
        )
    if dtype not in get_args(StorageDtype):
        raise DamagedRecipe(f"rows of dtype {dtype!r:.20} cannot be stored")
    if not all(_is_plain(value) for value in fields.values()):
        raise DamagedRecipe("a field of it is neither a plain value nor a list of such")
    recipe = _typed(fields) or StoredRecipe(fields, name)
    if recipe.digest != digest:
        raise DamagedRecipe("the recipe does not match its digest")
    return recipe


def _is_plain(value: object) -> bool:
    items = value if isinstance(value, list) else [value]
    return all(item is None or isinstance(item, str | int | float) for item in items)


def _typed(fields: Mapping[str, Any]) -> Recipe | None:
    """Return the recipe as an object of its class, if there is one that takes these fields."""
    for kind in (FeatureRecipe, FactsRecipe):
        values = {key: value for key, value in fields.items() if key != "kind"}
        if fields.get("kind") == kind.__name__ and set(values) == {
            field.name for field in dataclasses.fields(kind)
        }:
            return kind(**values)
    return None
