"""The command ``doctor``: inference mode proved, and the BatchNorm trap measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.assemble import Assembly, assemble_for
from pipeline.batchnorm import LayerShift, Proof, norms_of, proofs, shifts, theirs, trap
from pipeline.batchnorm.measure import InputMoments, in_batches
from pipeline.config import DoctorConfig
from pipeline.engines import choice
from pipeline.engines.base import Engine
from pipeline.events import Notice, Observer
from pipeline.images.resize import Resize
from pipeline.pictures import Pictures, load_pictures
from pipeline.stage_one import find_dataset, require_one

OTHER_ENGINES = 64
"""Images that other engines, precisions and batch sizes are tried on; a network in float32 differs
on no image by more than rounding or on each."""

_NEIGHBOURS = 3  # batches whose images are put among others
_FEW = 5  # images a class needs for the trap to be measured on it
_ODD = 5  # images of another size of the batch
_BATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What the doctor found.

    Attributes
    ----------
    subject
        The backbone with its input, or the model's file.
    weights
        Where the weights came from; empty for a model of the user's.
    data, images, rejected
        The data set, how many of its images were looked at, and how many could not be used.
    proofs
        What was to be shown, and whether it was.
    layers
        Of each BatchNorm layer, how far the data lie from it; in the network's order.
    trap
        What heads lose that are trained on batch statistics; None where that was left out.
    modes
        The same for a model of the user's, which has its own head.
    left_out
        Why neither was measured; empty where one was.
    advice
        Sentences on what to do; for a model of the user's.
    plot
        Where the distances are drawn; None without a BatchNorm layer.
    seconds
        What it took.
    """

    subject: str
    weights: str
    data: str
    images: int
    rejected: int
    proofs: tuple[Proof, ...]
    layers: tuple[LayerShift, ...]
    trap: trap.Trap | None = None
    modes: theirs.Modes | None = None
    left_out: str = ""
    advice: tuple[str, ...] = ()
    plot: Path | None = None
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        """Whether no proof failed."""
        return all(proof.passed is not False for proof in self.proofs)

    @property
    def distance(self) -> float | None:
        """Distance of the layer in the middle; None without a BatchNorm layer."""
        return statistics.median(x.distance for x in self.layers) if self.layers else None


def examine(config: DoctorConfig, observe: Observer) -> Diagnosis:
    """Examine a backbone, or a model of the user's, on the user's images.

    Nothing of the cache is read or written, but for the list of files, a converted network and the
    plot.

    Raises
    ------
    UsageError
        As for stage one; or fewer than two images can be used, or the model is none.
    """
    began = time.monotonic()
    require_one(config.features, "doctor")
    found = _theirs(config, observe) if config.model else _ours(config, observe)
    place = config.features.out / "doctor"
    plot = place / f"{Path(found.subject).stem.replace(' ', '-')}.png" if found.layers else None
    return replace(found, plot=plot, seconds=time.monotonic() - began)


def _ours(config: DoctorConfig, observe: Observer) -> Diagnosis:
    features = config.features
    dataset = find_dataset(features)
    assembly = assemble_for(features.data, features.backbone, observe)
    pictures = load_pictures(dataset, features, assembly.resize, config.images, observe)
    images, seed = pictures.pixels, features.backbone.seed
    assembly = replace(assembly, batch_size=min(assembly.batch_size, len(images)))
    engine = assembly.reference()
    norms = norms_of(engine.network)
    before = proofs.by_name(norms)
    observe(Notice("proving inference mode"))
    rows = proofs.features_of(engine, images)
    few = _NEIGHBOURS * engine.batch_size
    odd = replace(assembly, batch_size=_ODD if assembly.batch_size != _ODD else _ODD - 2)
    again = odd.reference()
    some, theirs_ = images[:OTHER_ENGINES], rows[:OTHER_ENGINES]
    shown = [
        proofs.neighbours(engine, images[:few], rows[:few]),
        proofs.order(engine, images, rows, seed),
        proofs.batch_size(again, some, theirs_),
        proofs.traced(engine),
        proofs.as_loaded(proofs.by_name(norms_of(again.network)), norms),
        *(proofs.agreement(other, some, theirs_) for other in _others(assembly, config, observe)),
        *_lacking(),
    ]
    layers: tuple[LayerShift, ...] = ()
    measured, why = None, "the network has no BatchNorm layer"
    if norms:
        observe(Notice("measuring what its BatchNorm layers are given, and the trap"))
        batches = in_batches(images, engine.batch_size)
        layers = shifts(norms, InputMoments(engine.model, norms)(batches, len(images)))
        kept, why = _labelled(pictures)
        if not why:
            batched = trap.batch_features(engine.model, norms, images, engine.batch_size, seed)
            labels = np.unique(np.array(pictures.labels)[kept], return_inverse=True)[1]
            groups = pictures.groups[kept]
            measured = trap.measure(rows[kept], batched[kept], labels, groups, seed)
    recipe = assembly.recipe
    return Diagnosis(
        subject=f"{recipe.backbone} {recipe.size}",
        weights=assembly.weights.source,
        data=features.data,
        images=len(images),
        rejected=pictures.rejected,
        proofs=(*shown, proofs.unmoved(before, norms)),
        layers=layers,
        trap=measured,
        left_out=why,
    )


def _others(assembly: Assembly, config: DoctorConfig, observe: Observer) -> Iterator[Engine]:
    """Build the other engines and precisions that can run here, one after the other."""
    for one in choice.available():
        if (one.engine, one.precision) != ("keras", "float32"):
            other = replace(assembly.computing_in(one.precision), choice=one)
            yield other.engine(config.features.out, observe=observe)


def _lacking() -> list[Proof]:
    if any(one.engine == "openvino" for one in choice.available()):
        return []
    return [Proof("OpenVINO agrees with Keras in float32", None, "OpenVINO is not installed")]


def _labelled(pictures: Pictures) -> tuple[NDArray[np.int64], str]:
    """Positions of the images that a head can be trained on; or why there are none."""
    if pictures.labels is None:
        return np.zeros(0, np.int64), "the images have no labels"
    _, number, counts = np.unique(
        np.array(pictures.labels), return_inverse=True, return_counts=True
    )
    kept = np.flatnonzero(counts[number] >= _FEW)
    if len(np.unique(number[kept])) < 2:
        return kept, f"fewer than two classes have {_FEW} of the images looked at"
    if len(np.unique(pictures.groups[kept])) < trap.FOLDS:
        return kept, f"the images are fewer than {trap.FOLDS} groups of duplicates"
    return kept, ""


def _theirs(config: DoctorConfig, observe: Observer) -> Diagnosis:
    features, path = config.features, config.model
    assert path is not None
    dataset = find_dataset(features)
    size = features.backbone.size
    model = theirs.TheirModel(
        path,
        preprocessing=config.preprocessing,
        size=size,
        batch_size=features.backbone.batch_size or _BATCH,
    )
    resize = Resize(model.height, model.width, features.backbone.resize)
    pictures = load_pictures(dataset, features, resize, config.images, observe)
    images = pictures.pixels
    model.batch_size = min(model.batch_size, len(images))
    before = proofs.by_name(model.norms)
    rows = proofs.features_of(model, images)
    few = _NEIGHBOURS * model.batch_size
    moved = model.moved_by_fit(images)
    layers: tuple[LayerShift, ...] = ()
    modes, why = None, "the model has no BatchNorm layer"
    if model.norms:
        moments = InputMoments(model.called, model.norms)
        layers = shifts(model.norms, moments(in_batches(images, model.batch_size), len(images)))
        seed = features.backbone.seed
        batched = trap.batch_features(model.called, model.norms, images, model.batch_size, seed)
        modes, why = theirs.compare_modes(rows, batched, pictures.labels), ""
    return Diagnosis(
        subject=str(path),
        weights="",
        data=features.data,
        images=len(images),
        rejected=pictures.rejected,
        proofs=(
            _keeps_in_fit(moved, len(model.norms)),
            proofs.neighbours(model, images[:few], rows[:few]),
            proofs.order(model, images, rows, features.backbone.seed),
            proofs.unmoved(before, model.norms),
        ),
        layers=layers,
        modes=modes,
        left_out=why,
        advice=_advice(moved, theirs.pinned(model.model)),
    )


def _keeps_in_fit(moved: tuple[object, ...], count: int) -> Proof:
    promise = "fit would leave the moving statistics alone and use them"
    if not count:
        return Proof(promise, None, "the model has no BatchNorm layer")
    told = (
        f"called as fit does, {len(moved)} of {count} BatchNorm layers use the batch's statistics"
    )
    return Proof(promise, not moved, told if moved else f"{count} BatchNorm layers, none moved")


def _advice(moved: tuple[object, ...], pinned: tuple[str, ...]) -> tuple[str, ...]:
    told = []
    if pinned:
        told.append(
            f"{', '.join(pinned)} is called with training=False, which does not protect it: in "
            "Keras 3 the outer fit overrides that, and the statistics move"
        )
    if moved:
        told.append(
            "set backbone.trainable = False before compile: in Keras 3 BatchNorm then uses its "
            "stored statistics in fit too; to train other layers of it, set trainable = False of "
            "each BatchNormalization layer alone"
        )
    return tuple(told)
