"""Arrays and files: a feature store of sealed HDF5 shards. Knows nothing of models or images."""

from cache.buffer import RowBuffer
from cache.errors import CacheError, MissingRows, RecipeError, ShardError
from cache.filelist import FileIndex
from cache.recipe import FORMAT_VERSION, FactsRecipe, FeatureRecipe, Recipe
from cache.store import FeatureStore

__all__ = [
    "FORMAT_VERSION",
    "CacheError",
    "FactsRecipe",
    "FeatureRecipe",
    "FeatureStore",
    "FileIndex",
    "MissingRows",
    "Recipe",
    "RecipeError",
    "RowBuffer",
    "ShardError",
]
