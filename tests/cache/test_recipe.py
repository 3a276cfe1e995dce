"""A store's recipe.json is read back to the recipe, or refused."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from cache import FeatureStore, RecipeError
from cache.recipe import StoredRecipe


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_recipe_comes_back_from_its_store(tmp_path, recipe_of, dtype):
    recipe = recipe_of(dtype)
    store = FeatureStore.open(tmp_path, recipe, provenance={"keras": "3.15", "löss": [1, None]})
    assert FeatureStore.at(store.folder).recipe == recipe
    written = json.loads((store.folder / "recipe.json").read_text())
    assert written["provenance"] == {"keras": "3.15", "löss": [1, None]}
    assert written["digest"] == recipe.digest


def test_provenance_is_recorded_once_and_never_compared(tmp_path, recipe):
    store = FeatureStore.open(tmp_path, recipe, provenance={"time": 1})
    FeatureStore.open(tmp_path, recipe, provenance={"time": 2})
    assert json.loads((store.folder / "recipe.json").read_text())["provenance"] == {"time": 1}


def test_a_recipe_of_an_unknown_kind_still_opens(tmp_path, rows_of):
    recipe = StoredRecipe({"kind": "Other", "dtype": "float32", "version": 1, "x": [1.5]}, "other")
    store = FeatureStore.open(tmp_path, recipe)
    rows = rows_of(3)
    store.append(rows.keys, rows.features)
    again = FeatureStore.at(tmp_path / "other")
    assert again.recipe == recipe
    assert again.rows == 3


@dataclass
class Edited:
    change: dict[str, object]
    said: str


@pytest.mark.parametrize(
    "edited",
    [
        Edited({"version": 2}, "newer version"),
        Edited({"version": "x"}, "format 'x'"),
        Edited({"dtype": "float64"}, "cannot be stored"),
        Edited({"pooling": "max"}, "does not match its digest"),
        Edited({"more": 1}, "does not match its digest"),
    ],
)
def test_an_edited_recipe_is_refused(store, edited):
    file = store.folder / "recipe.json"
    whole = json.loads(file.read_text())
    whole["recipe"] |= edited.change
    file.write_text(json.dumps(whole))
    with pytest.raises(RecipeError, match=edited.said):
        FeatureStore.at(store.folder)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b'{"recipe": 1}',
        b'{"recipe": {}, "digest": ""}',
        b"[" * 200_000,
        b'{"recipe": ' * 100_000,
        b"9" * 100_000,
        b"\xff\xfe",
        b" " * (1 << 21),
    ],
    ids=range(11),
)
def test_a_damaged_deep_or_huge_recipe_is_refused_and_healed_by_who_knows_it(store, text, rows_of):
    rows = rows_of(5)
    store.append(rows.keys, rows.features)
    (store.folder / "recipe.json").write_bytes(text)
    with pytest.raises(RecipeError, match="writes it anew"):
        FeatureStore.at(store.folder)
    again = FeatureStore.open(store.folder.parent, store.recipe)
    assert np.array_equal(again.read(rows.keys), rows.features)
    assert FeatureStore.at(store.folder).recipe == store.recipe
    (aside,) = (store.folder / "quarantine").iterdir()
    assert aside.read_bytes() == text


def test_a_recipe_of_a_newer_format_is_never_replaced(store):
    file = store.folder / "recipe.json"
    newer = json.loads(file.read_text())
    newer["recipe"]["version"] = 2
    file.write_text(json.dumps(newer))
    with pytest.raises(RecipeError, match="use the newer version"):
        FeatureStore.open(store.folder.parent, store.recipe)
    assert json.loads(file.read_text()) == newer


def test_a_recipe_that_is_a_link_is_refused(store, tmp_path):
    file = store.folder / "recipe.json"
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RecipeError, match="not a regular file"):
        FeatureStore.at(store.folder)
