"""``--bn adapt``: on which images BatchNorm statistics are re-estimated, and where they are kept.

``<out>/adapted/`` holds, for each data set, the list of the images chosen, and for each network,
input and list the statistics, ``<backbone>-<size>-<what they are of>-<SHA-256>.safetensors``. The
list stays until it is asked to be drawn again: images that come, go or change their label start no
other store.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache import FeatureRecipe, FeatureStore
from cache.atomic import commit, write_at
from pipeline.assemble import Assembly
from pipeline.backbones.statistics import pack
from pipeline.batchnorm import norms_of
from pipeline.batchnorm.adapt import BYTES_PER_PIXEL, adapt
from pipeline.config import BatchNormConfig, FeaturesConfig
from pipeline.dataset import Dataset
from pipeline.dataset.duplicates import find_duplicates
from pipeline.engines.graph import graph
from pipeline.errors import UsageError
from pipeline.events import Notice, Observer
from pipeline.images.hashing import in_key_order
from pipeline.keyed import index_file
from pipeline.memory import memory_at_hand
from pipeline.pictures import decoded, keep_facts
from pipeline.roles import never_scored
from pipeline.text import human_bytes, plural

# Part of the digest of the images: another way to choose or to measure is another version.
_RULE = b"headstart-adapt-1"
_DIGITS = 32


def adapted(
    assembly: Assembly,
    config: FeaturesConfig,
    dataset: Dataset,
    keys: NDArray[np.uint8],
    facts: FeatureStore,
    observe: Observer,
) -> Assembly:
    """Give a backbone the statistics of a data set's images, and a recipe that says so.

    Parameters
    ----------
    dataset, keys
        The images that can be read, and uint8 ``(n, 32)``.
    facts
        The store of what decoding them told; what it lacks is added.

    Raises
    ------
    UsageError
        The network has no BatchNorm layer; fewer than two images are left to adapt to, or each of
        them is of a single colour; or they are gone and the statistics with them.
    """
    assert config.bn is not None
    if not assembly.backbone.batchnorm:
        raise UsageError(
            f"{assembly.backbone.name} has no BatchNorm layer: --bn adapt has nothing to adapt"
        )
    chosen = _chosen(config, dataset, keys, facts, observe)
    mode = "adapt" if config.bn.mix == 1 else f"adapt-{config.bn.mix:g}"
    images = hashlib.sha256(_RULE + chosen.tobytes()).hexdigest()
    recipe = replace(assembly.recipe, bn=mode, bn_images=images)
    folder = config.out / "adapted"
    found = find_statistics(recipe, [folder])
    if found is None:
        observe(
            Notice(f"adapting BatchNorm to {plural(len(chosen), 'image')}; done once, and kept")
        )
        _adapt(assembly, recipe, config.bn, dataset, keys, chosen, folder)
        found = find_statistics(recipe, [folder])
    if found is None:
        raise UsageError(f"{folder} does not keep what is written to it")
    return with_statistics(assembly, recipe, found)


def with_statistics(assembly: Assembly, recipe: FeatureRecipe, file: Path) -> Assembly:
    """Return the same backbone with the statistics of a file, under a recipe that names them."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    weights = replace(assembly.weights, statistics=file, statistics_digest=digest)
    return replace(assembly, weights=weights, recipe=recipe)


def find_statistics(recipe: FeatureRecipe, folders: Sequence[Path]) -> Path | None:
    """Find the statistics of a recipe; a file that lacks the digest in its name does not count."""
    stem = _stem(recipe)
    for path in (path for folder in folders for path in sorted(folder.glob(f"{stem}-*"))):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if path.name == f"{stem}-{digest[:_DIGITS]}.safetensors":
            return path
    return None


def copy_beside(assembly: Assembly, folder: Path) -> None:
    """Put the statistics, if there are any of their own, beside a head that needs them."""
    if assembly.weights.statistics:
        shutil.copy(assembly.weights.statistics, folder)


def _stem(recipe: FeatureRecipe) -> str:
    """Name what statistics are of: of the recipe, all that they depend on."""
    plain = replace(recipe, layer="top", pooling="avg", precision="float32", dtype="float32")
    return f"{recipe.backbone}-{recipe.size}-{plain.digest[:16]}"


def _chosen(
    config: FeaturesConfig,
    dataset: Dataset,
    keys: NDArray[np.uint8],
    facts: FeatureStore,
    observe: Observer,
) -> NDArray[np.uint8]:
    """Read the list of images, or draw it: the smallest keys that no score will ever be of."""
    assert config.bn is not None
    seed, count = config.backbone.seed, config.bn.images
    name = f"{index_file(config.out, config.data).name}-{count}-{seed}.json"
    path = config.out / "adapted" / name
    kept = None if config.bn.refresh else _read(path)
    if kept is not None:
        return kept
    keep_facts(dataset, keys, facts, observe)
    known = np.ones(len(keys), bool)
    known[facts.missing(keys)] = False
    free = known & never_scored(dataset, keys, find_duplicates(keys, facts), seed)
    here = keys[free]
    first, _ = in_key_order(here)
    drawn = here[first[:count]]
    if len(drawn) < 2:
        raise UsageError(
            f"{config.data} has {plural(len(drawn), 'image')} outside of test and holdout, and "
            "--bn adapt needs at least 2 to adapt to"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"images": [key.tobytes().hex() for key in drawn]})
    path.write_text(text, encoding="ascii")
    return drawn


def _read(path: Path) -> NDArray[np.uint8] | None:
    try:
        images = json.loads(path.read_text(encoding="ascii"))["images"]
        return np.frombuffer(bytes.fromhex("".join(images)), np.uint8).reshape(-1, 32)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is no list of images to adapt to: draw them again with --bn-refresh"
        ) from error


def _adapt(
    assembly: Assembly,
    recipe: FeatureRecipe,
    bn: BatchNormConfig,
    dataset: Dataset,
    keys: NDArray[np.uint8],
    chosen: NDArray[np.uint8],
    folder: Path,
) -> None:
    places = {key.tobytes(): i for i, key in enumerate(keys)}
    gone = sum(key.tobytes() not in places for key in chosen)
    if gone:
        raise UsageError(
            f"{gone} of the {len(chosen)} images that BatchNorm was to be adapted to are gone: "
            "choose others with --bn-refresh"
        )
    paths = [dataset.paths[places[key.tobytes()]] for key in chosen]
    pixels = decoded(paths, chosen, assembly.resize)
    if len(pixels) < len(chosen):
        raise UsageError(
            f"{len(chosen) - len(pixels)} of the images to adapt to cannot be read: choose others "
            "with --bn-refresh"
        )
    if (pixels == pixels[:, :1, :1]).all():
        raise UsageError(
            f"each of the {len(chosen)} images to adapt BatchNorm to is of a single colour: "
            "there is nothing to adapt to"
        )
    _check_memory(len(pixels), recipe.size)
    model, network = graph(
        assembly.backbone,
        assembly.weights,
        size=recipe.size,
        outputs=(assembly.output,),
        batch_size=None,
    )
    statistics = adapt(model, norms_of(network), pixels, bn.mix)
    data = pack({name: (each.mean, each.variance) for name, each in statistics.items()})
    for damaged in folder.glob(f"{_stem(recipe)}-*"):
        damaged.unlink()
    tmp = folder / "tmp"
    tmp.mkdir(parents=True, exist_ok=True)
    commit(
        tmp,
        folder,
        None,
        lambda fd: write_at(fd, data, 0),
        lambda sha: f"{_stem(recipe)}-{sha[:_DIGITS]}.safetensors",
    )


def _check_memory(count: int, size: int) -> None:
    """Refuse what memory does not hold; fewer images would be other statistics, so it is said."""
    each, at_hand = size**2 * BYTES_PER_PIXEL, memory_at_hand()
    if at_hand is not None and count * each > at_hand:
        raise UsageError(
            f"adapting BatchNorm to {count} images at once takes about {human_bytes(count * each)},"
            f" and {human_bytes(at_hand)} are free: --bn-images {max(2, at_hand // each)} would do"
        )
