"""What the benchmarks share: flags, rounds in turn, photographs, the machine, tables and JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.config import BackboneConfig, usable_cores

SIZES = {"300x300": (300, 300), "480x640": (480, 640), "1200x1600": (1200, 1600)}


@dataclass(frozen=True)
class Flags:
    """What `make bench ARGS=...` can say; every script takes all of it."""

    quick: bool
    rounds: int
    images: int
    out: Path
    backbone: str
    engine: str | None
    precision: str | None
    folders: tuple[Path, ...]


def flags(doc: str | None) -> Flags:
    parser = argparse.ArgumentParser(description=doc, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="a minute; shows that it works")
    parser.add_argument("--rounds", type=int, help="at least 5 for figures to be quoted")
    parser.add_argument("--images", type=int, help="photographs of each size")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="JSON and plots")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--engine", help="this one alone, not all that are installed")
    parser.add_argument("--precision", help="this one alone")
    parser.add_argument(
        "--folders", type=Path, nargs="*", default=(), help="heads: class folders of real images"
    )
    given, others = parser.parse_known_args()
    if others:  # `make bench` gives all benchmarks the same flags
        print(f"not for this benchmark: {' '.join(others)}", file=sys.stderr)
    given.rounds = given.rounds or (1 if given.quick else 5)
    given.images = given.images or (32 if given.quick else 160)
    given.folders = tuple(given.folders)
    given.out.mkdir(parents=True, exist_ok=True)
    return Flags(**vars(given))


def configured(backbone: str, engine: str, precision: str) -> BackboneConfig:
    """Configure a backbone with the same random weights everywhere."""
    return BackboneConfig(backbone=backbone, weights="random", engine=engine, precision=precision)


def in_turn(
    candidates: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, tuple[float, ...]]:
    """Let each candidate measure itself, one after the other, round by round."""
    measured: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, measure in candidates.items():
            measured[name].append(measure())
    return {name: tuple(values) for name, values in measured.items()}


def rate(work: Callable[[], object], count: int) -> float:
    """Return how many of `count` things are done a second."""
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


def in_batches(
    network: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    pixels: NDArray[np.uint8],
    size: int,
) -> NDArray[np.float32]:
    """Run a network over an array, `size` images at a time."""
    return np.concatenate([network(pixels[i : i + size]) for i in range(0, len(pixels), size)])


def ratio(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the median of the rounds' ratios, which a busy machine moves less than either."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def write_photos(folder: Path, size: tuple[int, int], count: int) -> list[Path]:
    """Write JPEG files with structure at every scale, as photographs have; half a byte a pixel."""
    height, width = size
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        pixels = np.zeros((height, width, 3))
        for cells, strength in ((4, 50), (16, 25), (64, 12), (256, 6)):
            coarse = rng.normal(128, strength, (cells * 3 // 4, cells, 3)).clip(0, 255)
            layer = Image.fromarray(coarse.astype(np.uint8))
            layer = layer.resize((width, height), Image.Resampling.BICUBIC)
            pixels += np.asarray(layer, float) - 128
        path = folder / "ab"[i % 2] / f"{i:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels + 128).clip(0, 255).astype(np.uint8)).save(path, quality=90)
        paths.append(path)
    return paths


def machine() -> dict[str, Any]:
    """Describe what the figures were measured on, and how busy it was."""
    described: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cores": usable_cores(),
    }
    cpu = Path("/proc/cpuinfo")
    if cpu.exists():
        pairs = [line.split(":", 1) for line in cpu.read_text().splitlines() if ":" in line]
        lines = {key.strip(): value.strip() for key, value in pairs}
        wanted = {"avx2", "avx512f", "avx512_bf16", "amx_bf16", "sha_ni"}
        features = lines.get("flags", "").split()
        described["cpu"] = lines.get("model name", "")
        described["instructions"] = sorted(wanted & set(features))
    if hasattr(os, "getloadavg"):
        described["load"] = round(os.getloadavg()[0], 1)
    return described


def report(chosen: Flags, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table, and keep it as JSON beside the plots."""
    texts = [[_text(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
    for line in (columns, *texts):
        first, *rest = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        print("  ".join([first, *(t.strip().rjust(len(t)) for t in rest)]))
    content = {
        "machine": machine(),
        "rounds": chosen.rounds,
        "rows": [dict(zip(columns, row, strict=True)) for row in rows],
    }
    file = chosen.out / f"{name}.json"
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"kept in {file}\n")


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else str(value)
