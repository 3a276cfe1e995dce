"""Whole runs of the command: start-up, the first image, nothing new, a little new, peak memory.

Each run is a process of its own, timed from outside. Files are tiny where there are many, so that
what is measured is everything but the network. A whole run over one photograph bounds the time to
the first image from above: it ends with that image's row on the disk.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.bench.common import SIZES, Flags, flags, report, write_photos

_MIB = 1 << 20
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Run:
    """What one run of the command took."""

    seconds: float
    peak: float


def paint(folder: Path, first: int, stop: int) -> None:
    """Write small PNG files, each another one, a thousand a folder."""
    for i in range(first, stop):
        path = folder / "ab"[i % 2] / f"{i // 1000}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(path, compress_level=0)


def features(photos: Path, out: Path, *more: str) -> Run:
    """Run `headstart features` over a folder."""
    return headstart(
        "features", str(photos), "--out", str(out), "--weights", "random", "--json", *more
    )


def headstart(*words: str) -> Run:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "pipeline.cli", *words]
    began = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"failed with {child.returncode}: {' '.join(command)}")
    return Run(time.perf_counter() - began, used.ru_maxrss * _RSS_UNIT / _MIB)


def second_runs(chosen: Flags, place: Path, count: int) -> list[list[object]]:
    """Time runs over many files of which none, or ten, are new, and a run over ten alone."""
    photos, out = place / "many", place / "out"
    small = ("--backbone", "efficientnet-lite0", "--size", "32")
    paint(photos, 0, count)
    first = features(photos, out, *small)
    nothing, few, alone = [], [], []
    for i in range(chosen.rounds):
        nothing.append(features(photos, out, *small))
        paint(photos, count + 10 * i, count + 10 * (i + 1))
        few.append(features(photos, out, *small))
        paint(place / f"ten{i}", count + 10 * i, count + 10 * (i + 1))
        alone.append(features(place / f"ten{i}", place / f"fresh{i}", *small))
    return [
        _row(f"{count} files, all new, small input", [first]),
        _row(f"nothing new among {count}", nothing, target=2.0),
        _row(f"10 new among {count}", few),
        _row("10 files in an empty cache", alone),
    ]


def start_ups(chosen: Flags, place: Path) -> list[list[object]]:
    """Time runs over one photograph, without and with the converted network, and over none."""
    one, other = write_photos(place / "photos", SIZES["480x640"], 2)
    backbone = ("--backbone", chosen.backbone)
    cold, warm, status, usage = [], [], [], []
    for i in range(chosen.rounds):
        out = place / f"start{i}"
        cold.append(features(one.parent, out, *backbone))
        warm.append(features(other.parent, out, *backbone))
        status.append(headstart("status", "--out", str(out)))
        usage.append(headstart("--help"))
    return [
        _row("--help", usage, target=0.3),
        _row("status", status, target=0.3),
        _row("one JPEG image, empty cache", cold),
        _row("one JPEG image, conversion kept", warm, target=3.0),
    ]


def memory(chosen: Flags, place: Path, counts: tuple[int, int]) -> list[list[object]]:
    """Compare the peak memory of runs over few and over many images.

    The network is converted before, by a process whose memory would count here too.
    """
    rows = []
    paint(place / "first", 0, 1)
    for count in counts:
        paint(place / f"of{count}", 0, count)
        small = ("--backbone", "efficientnet-lite0", "--size", "32")
        runs = []
        for i in range(min(chosen.rounds, 3)):
            features(place / "first", place / f"m{count}-{i}", *small)
            runs.append(features(place / f"of{count}", place / f"m{count}-{i}", *small))
        rows.append(_row(f"{count} images", runs))
    return rows


def _row(name: str, runs: list[Run], target: float | None = None) -> list[object]:
    seconds = statistics.median(run.seconds for run in runs)
    return [name, seconds, target, statistics.median(run.peak for run in runs)]


def main() -> None:
    chosen = flags(__doc__)
    many, counts = (1000, (200, 1000)) if chosen.quick else (100_000, (2000, 50_000))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        rows = [
            *start_ups(chosen, place),
            *second_runs(chosen, place, many),
            *memory(chosen, place, counts),
        ]
    report(chosen, "runs", ("run", "seconds", "wanted below", "peak MiB"), rows)


if __name__ == "__main__":
    main()
