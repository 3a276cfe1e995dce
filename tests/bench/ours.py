"""Headstart's side of the benchmarks: which engines and precisions there are, and how they run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.assemble import assemble
from pipeline.config import BackboneConfig, FeaturesConfig
from pipeline.errors import PipelineError
from pipeline.events import ignore
from pipeline.stage_one import find_dataset, make_features
from tests.bench.common import Flags, configured, in_batches

ENGINES = (("keras", "float32"), ("openvino", "float32"), ("openvino", "bfloat16"))


@dataclass(frozen=True)
class Ours:
    """One engine in one precision; the batch is as large as the engine likes it."""

    config: BackboneConfig
    engine: Any

    def network(self, pixels: Any) -> Any:
        """Compute features of any number of images, as `peers.Peer.network` does."""
        return in_batches(lambda batch: self.engine(batch)[0], pixels, self.engine.batch_size)

    def images_per_second(self, folder: Path) -> float:
        """Take a folder of files to committed rows, in an empty cache; start-up not counted."""
        out = Path(tempfile.mkdtemp())
        try:
            config = FeaturesConfig(data=str(folder), out=out, backbone=self.config)
            return make_features(config, find_dataset(config), ignore).images_per_second
        finally:
            shutil.rmtree(out)


def installed(flags: Flags) -> dict[str, Callable[[], Ours]]:
    """Name the engines and precisions that the flags ask for; each may still prove impossible."""
    wanted = [
        (engine, precision)
        for engine, precision in ENGINES
        if flags.engine in (None, engine) and flags.precision in (None, precision)
    ]
    return {f"headstart {e} {p}": lambda e=e, p=p: _make(flags, e, p) for e, p in wanted}


def make(name: str, offer: Callable[[], Ours]) -> Ours | None:
    """Build an engine, or say why it cannot be had here."""
    with suppress(ImportError, PipelineError):
        ours = offer()
        if f"{ours.engine.name} {ours.engine.precision}".startswith(name.split()[1]):
            return ours
    print(f"left out: {name}, which is not installed or cannot run here")
    return None


def _make(flags: Flags, engine: str, precision: str) -> Ours:
    config = configured(flags.backbone, engine, precision)
    return Ours(config, assemble(config).engine(flags.out))
