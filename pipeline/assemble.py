"""From a user's choice of backbone to the recipe of its features, and to its engine."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cache import CacheError, FactsRecipe, FeatureRecipe, FeatureStore
from pipeline.backbones.registry import Backbone, backbone
from pipeline.backbones.weights import Weights, resolve_weights
from pipeline.config import DEFAULT_BACKBONE, DEMO, DEMO_BACKBONE, BackboneConfig
from pipeline.engines.choice import Choice, choose
from pipeline.engines.pooling import check_pooling
from pipeline.errors import WeightsUnavailable
from pipeline.events import Notice, Observer, ignore
from pipeline.images.augment import Policy
from pipeline.images.decode import DECODER, Resize
from pipeline.images.facts import FACTS_LAYOUT
from pipeline.images.rejects import read_rejects
from pipeline.memory import fitting_batch, memory_at_hand

if TYPE_CHECKING:
    from pipeline.engines.base import Engine, Output
    from pipeline.engines.conversion import Conversion
    from pipeline.engines.keras_engine import KerasEngine

BATCH_SIZE = 32
"""Images at once where nobody says how many and memory allows it.

Measured with Keras on TensorFlow on 2 cores, images per second of processor time in batches of 8,
16, 32, 64 and 128: efficientnet-lite0 55.5, 56.7, 55.2, 55.7, 56.8; resnet50 10.7, 11.1, 11.2,
11.5, 11.7. So 32 is within 5 % of the best there, and to probe other sizes at each start, at
seconds a shape, would cost more than it gains; on a GPU they are tried, see `LARGEST_BATCH`."""

LARGEST_BATCH = 512
"""Most images at once that are tried on a GPU, where nobody says how many."""

# At least so many batches are to follow where larger ones are tried: to try them takes as long as a
# few of them, and as many wait for the network.
_BATCHES_LEFT = 16

# What ``auto`` chooses between.
_OPEN = ("float32", "bfloat16")

_LIBRARIES = ("headstart", "tensorflow", "keras", "numpy", "pillow", "simplejpeg", "h5py")
_EXTRAS = ("openvino", "numba")

FACTS_RECIPE = FactsRecipe(decode=DECODER, layout=FACTS_LAYOUT)


@dataclass(frozen=True, slots=True)
class Assembly:
    """A backbone with its weights, fixed down to the digest of every row it will ever give."""

    backbone: Backbone
    weights: Weights
    resize: Resize
    recipe: FeatureRecipe
    batch_size: int
    largest_batch: int
    choice: Choice

    @property
    def output(self) -> Output:
        """The row that the recipe names, of a pass."""
        from pipeline.engines.base import Output

        return Output(self.recipe.layer, self.recipe.pooling)

    def computing_in(self, precision: str) -> Assembly:
        """Return the same of another precision."""
        return replace(self, recipe=replace(self.recipe, precision=precision))

    def stores(self, out: Path) -> tuple[FeatureStore, FeatureStore]:
        """Open the stores of features and of image facts below `out`, making what is not there."""
        return (
            FeatureStore.open(out / "features", self.recipe, provenance=self._made_by()),
            open_facts(out),
        )

    def augmented_recipe(self, policy: Policy) -> FeatureRecipe:
        """Return the recipe of augmented views; that of plain images is `recipe`."""
        return replace(self.recipe, augment=policy.name, augment_seed=policy.seed)

    def augmented_store(self, out: Path, policy: Policy) -> FeatureStore:
        """Open the store of augmented views below `out`, making it if it is not there."""
        recipe = self.augmented_recipe(policy)
        return FeatureStore.open(out / "features", recipe, provenance=self._made_by())

    def engine(
        self,
        out: Path,
        outputs: Sequence[Output] = (),
        *,
        images: int = 0,
        observe: Observer = ignore,
    ) -> Engine:
        """Build the network; with OpenVINO from its conversion below `out`, made if it is missing.

        Parameters
        ----------
        out
            Where conversions are kept.
        outputs
            What a pass is to yield; by default the row that the recipe names.
        images
            How many there are to come, at least: with many, a GPU gets larger batches if those
            are faster.
        observe
            Told where the network has to be converted first.

        Raises
        ------
        UsageError
            The engine cannot run this network here.
        OSError
            A conversion cannot be kept there.
        """
        settings = self._settings(outputs)
        if self.choice.engine == "openvino":
            from pipeline.engines.openvino_engine import OpenVinoEngine

            return OpenVinoEngine(
                self.backbone,
                self.weights,
                folder=out / "converted",
                convert=_telling(observe),
                **settings,
            )
        from pipeline.engines.keras_engine import KerasEngine

        largest = min(self.largest_batch, images // _BATCHES_LEFT)
        return KerasEngine(self.backbone, self.weights, largest=largest, **settings)

    def reference(self) -> KerasEngine:
        """Build the network that all others are measured by: in Keras, in float32."""
        from pipeline.engines.keras_engine import KerasEngine

        return KerasEngine(
            self.backbone, self.weights, **self._settings() | {"precision": "float32"}
        )

    def _made_by(self) -> dict[str, str]:
        return provenance() | {"weights": self.weights.source, "engine": self.choice.engine}

    def _settings(self, outputs: Sequence[Output] = ()) -> dict[str, Any]:
        return {
            "size": self.recipe.size,
            "outputs": outputs or (self.output,),
            "precision": self.recipe.precision,
            "batch_size": self.batch_size,
        }


def open_facts(out: Path) -> FeatureStore:
    """Open the store of image facts below `out`, making it if it is not there."""
    return FeatureStore.open(out / "images", FACTS_RECIPE, provenance=provenance())


def _telling(observe: Observer) -> Callable[[Conversion, Path], None]:
    """Say that a network is converted, before it is."""
    from pipeline.engines.conversion import convert_apart

    def convert(conversion: Conversion, folder: Path) -> None:
        observe(Notice("converting the network for OpenVINO; that is done once, and kept"))
        convert_apart(conversion, folder)

    return convert


def assemble(config: BackboneConfig) -> Assembly:
    """Fix every choice that a feature depends on, without building the network.

    Raises
    ------
    UnknownBackbone
        No backbone has that name.
    WeightsUnavailable
        The weights are neither on disk nor reachable.
    UsageError
        No such pooling or resizing, the backbone cannot take that size, the weight file is not
        one, or the engine asked for is not installed or cannot compute in that precision here.
    """
    check_pooling(config.pooling)
    facts = backbone(config.backbone or DEFAULT_BACKBONE)
    size = facts.checked_size(config.size)
    weights = resolve_weights(facts, config.weights or "imagenet", config.seed)
    resize = Resize(size, size, config.resize)
    choice = choose(config.engine, config.precision, facts)
    recipe = FeatureRecipe(
        backbone=facts.name,
        weights=weights.digest,
        layer=config.layer,
        pooling=config.pooling,
        size=size,
        resize=resize.rule,
        decode=DECODER,
        preprocessing=facts.preprocessing,
        precision=choice.precision,
    )
    at_hand = memory_at_hand()
    batch_size = config.batch_size or fitting_batch(BATCH_SIZE, size, at_hand)
    largest = config.batch_size or fitting_batch(LARGEST_BATCH, size, at_hand)
    return Assembly(facts, weights, resize, recipe, batch_size, largest, choice)


def assemble_for(data: str, config: BackboneConfig, observe: Observer) -> Assembly:
    """Assemble for the data set that a user names: the demo alone may go on with other weights."""
    return assemble_demo(config, observe) if data == DEMO else assemble(config)


def assemble_demo(config: BackboneConfig, observe: Observer) -> Assembly:
    """Assemble as `assemble` does; without ImageNet weights, the demo goes on with smaller ones.

    Only where the user named neither a backbone nor weights: what was asked for by name is never
    replaced.
    """
    try:
        return assemble(config)
    except WeightsUnavailable:
        if config.backbone or config.weights:
            raise
        observe(
            Notice(
                f"ImageNet weights of {DEFAULT_BACKBONE} are not on this machine and cannot be "
                f"fetched: the demo goes on with {DEMO_BACKBONE}, whose weights are installed"
            )
        )
        return assemble(replace(config, backbone=DEMO_BACKBONE))


def go_on_with_complete(
    assembly: Assembly, out: Path, keys: NDArray[np.uint8], observe: Observer
) -> Assembly:
    """Take the other precision where its store has every row and the one assembled has not.

    For where the user left the precision open: what is there is not computed again.

    Parameters
    ----------
    out
        Where the stores are.
    keys
        uint8 ``(n, 32)``, the images asked for.
    """
    others = [assembly.computing_in(precision) for precision in _OPEN]
    for one in sorted(others, key=lambda one: one.recipe != assembly.recipe):
        if not _complete(out / "features" / one.recipe.name, keys):
            continue
        if one.recipe != assembly.recipe:
            observe(
                Notice(
                    f"going on with the complete store in {one.recipe.precision}; "
                    f"--precision {assembly.recipe.precision} computes anew"
                )
            )
        return one
    return assembly


def _complete(folder: Path, keys: NDArray[np.uint8]) -> bool:
    """Whether a store lacks none of these but images that it knows to be unusable."""
    if not (folder / "recipe.json").exists():
        return False
    try:
        missing = keys[FeatureStore.at(folder).missing(keys)]
    except CacheError:
        return False
    unusable = {reject.key for reject in read_rejects(folder) if reject.undecodable}
    return all(key.tobytes() in unusable for key in missing)


def provenance() -> dict[str, str]:
    """Versions and machine that rows were made with: recorded beside them, never part of a key."""
    versions = {name: version(name) for name in _LIBRARIES}
    for name in _EXTRAS:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions | {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }
