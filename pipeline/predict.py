"""The command ``predict``: a head file and images in, labels and probabilities out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache import FeatureRecipe
from pipeline.adaptation import find_statistics, with_statistics
from pipeline.assemble import Assembly, assemble
from pipeline.config import BackboneConfig, PredictConfig, usable_cores
from pipeline.engines.base import rows_of
from pipeline.errors import UsageError, WeightsUnavailable
from pipeline.events import BatchDone, ExtractionPlanned, Notice, Observer
from pipeline.export import HeadFile, load_head
from pipeline.images.batches import ViewPlan, decoded_batches
from pipeline.images.find import find_images
from pipeline.images.rejects import Reject


@dataclass(frozen=True, slots=True)
class Predictions:
    """Labels of images, in the order asked for.

    Attributes
    ----------
    classes
        Names of the classes, one a column of `probabilities`.
    paths
        The images that could be used.
    probabilities
        float32 ``(n, classes)``, rows summing to one.
    rejects
        The images that could not be used.
    images_per_second
        From the moment the network was ready; zero where no image could be used.
    views
        Views of each image whose probabilities were averaged; 1 where the plain image was labelled.
    """

    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    probabilities: NDArray[np.float32]
    rejects: tuple[Reject, ...]
    images_per_second: float
    views: int = 1

    def labels(self) -> list[str]:
        """Return the most probable class of each image."""
        return [self.classes[i] for i in self.probabilities.argmax(axis=1)]


def predict(config: PredictConfig, observe: Observer) -> Predictions:
    """Label images straight from their files with a head and the backbone it was trained on.

    A head that was scored by the mean of an image's views labels by it, by the same views: they
    follow from the file's bytes.

    Raises
    ------
    HeadError
        The head file is not one.
    UsageError
        No images, or the weights at hand are not those of the head.
    """
    head = load_head(config.head)
    assembly = _assembly_of(head, config)
    paths, rejects = _image_files(config.images)
    observe(ExtractionPlanned(new=len(paths), reused=0))
    if head.weights.source == "random":
        observe(Notice("this head was trained on features of RANDOM weights: they mean nothing"))
    engine = assembly.engine(config.out)
    (dims,) = engine.dims
    if dims != head.dims:
        raise UsageError(
            f"{config.head} takes rows of {head.dims} features and its backbone gives {dims}"
        )
    began = time.monotonic()
    used: list[Path] = []
    probabilities = []
    averaged = head.views if head.views and head.views.averaged else None
    views = averaged.count if averaged else 1
    batches = decoded_batches(
        paths,
        None,
        (assembly.resize,),
        batch_size=max(1, assembly.batch_size // views),
        workers=usable_cores(),
        views=ViewPlan.all_of(averaged.policy, len(paths), views) if averaged else None,
    )
    with contextlib.closing(batches):
        for batch in batches:
            # Of an image that can be decoded there are all views, of another one there is none.
            here = [i // views for i in batch.positions[::views]]
            failures = [(i // views, error) for i, error in batch.failures[::views]]
            rejects += [Reject(paths[i], None, str(error)) for i, error in failures]
            if here:
                used += [paths[i] for i in here]
                rows = rows_of(engine, batch.pixels())
                probabilities.append(head.probabilities(rows, views))
            observe(BatchDone(images=len(here), rejected=len(failures)))
    seconds = time.monotonic() - began
    return Predictions(
        classes=head.classes,
        paths=tuple(used),
        probabilities=np.concatenate(
            [*probabilities, np.zeros((0, len(head.classes)))], dtype=np.float32
        ),
        rejects=tuple(rejects),
        images_per_second=len(used) / seconds if used else 0.0,
        views=views,
    )


def _assembly_of(head: HeadFile, config: PredictConfig) -> Assembly:
    """Assemble the head's own backbone; refuse any other."""
    recipe = head.recipe
    source = config.weights or head.weights.source
    if config.weights is None and source == "file":
        raise UsageError(
            f"{config.head} was trained on the weight file {head.weights.name} "
            f"(SHA-256 {recipe.weights[:16]}...): name it with --weights FILE"
        )
    backbone = BackboneConfig(
        backbone=recipe.backbone,
        weights=source,
        seed=head.weights.seed,
        size=recipe.size,
        resize=recipe.resize.partition("-")[0],  # the mode; the filter follows from it
        layer=recipe.layer,
        pooling=recipe.pooling,
        batch_size=config.batch_size,
        engine=config.engine,
        precision=recipe.precision,
    )
    try:
        assembly = assemble(backbone)
    except WeightsUnavailable:
        raise UsageError(
            f"{config.head} needs the {source} weights of {recipe.backbone} that it was trained "
            "with, and they are not on this machine and cannot be fetched: name a copy of the file "
            "with --weights FILE"
        ) from None
    if recipe.bn != "stored":
        assembly = _with_adapted(assembly, recipe, config)
    if assembly.recipe != recipe:
        other = [name for name in vars(recipe) if vars(recipe)[name] != vars(assembly.recipe)[name]]
        raise UsageError(_refusal(config, head, assembly, other))
    return assembly


def _with_adapted(assembly: Assembly, recipe: FeatureRecipe, config: PredictConfig) -> Assembly:
    """Take the statistics that the head's features were made with, from beside it or the cache.

    Raises
    ------
    UsageError
        They are in neither place.
    """
    places = (config.head.parent, config.out / "adapted")
    file = find_statistics(recipe, places)
    if file is None:
        raise UsageError(
            f"{config.head} was trained with BatchNorm statistics adapted to its images, and they "
            f"are neither beside it nor in {places[1]}: keep the .safetensors file of its run "
            "beside it"
        )
    named = replace(assembly.recipe, bn=recipe.bn, bn_images=recipe.bn_images)
    return with_statistics(assembly, named, file)


def _refusal(
    config: PredictConfig, head: HeadFile, assembly: Assembly, other: Sequence[str]
) -> str:
    if other == ["weights"]:
        return (
            f"{config.head} was trained with other {head.recipe.backbone} weights: expected "
            f"SHA-256 {head.recipe.weights[:16]}..., found {assembly.recipe.weights[:16]}...; "
            "name the right file with --weights"
        )
    told = ", ".join(
        f"{name} {getattr(head.recipe, name)!r} (here {getattr(assembly.recipe, name)!r})"
        for name in other
    )
    return f"{config.head} needs features that this version does not make: {told}"


def _image_files(images: Sequence[Path]) -> tuple[list[Path], list[Reject]]:
    """Return the files named, and those in the folders named."""
    paths: list[Path] = []
    rejects: list[Reject] = []
    for image in images:
        if image.is_dir():
            found = find_images(image)
            paths += found.files
            rejects += found.rejects
        else:
            paths.append(image)
    if not paths:
        raise UsageError(f"no images in {', '.join(map(str, images))}")
    return paths, rejects
