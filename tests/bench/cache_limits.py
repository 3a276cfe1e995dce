"""How long it takes to open a large store, and to scan a large folder of which nothing changed.

Both are told in seconds on the clock and of CPU time: on a machine that others use as well, the
latter is what it would take on an idle one, if the files are in memory.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from cache import FeatureStore, FileIndex
from pipeline.dataset import load_dataset
from pipeline.images.hashing import hash_files
from tests.bench.cache_memory import growth
from tests.bench.cache_peers import drop_cached, recipe

# A shard of 64 MB has so many rows at 2048 float16. Here rows are narrow, as only their identities
# matter for opening: the files are as many as they would be.
_SHARD = 16_384
_DIMS = 16
_TARGET_OPEN = 0.2
_TARGET_SCAN = 2.0


def measure_openings(folder: Path, count: int, rounds: int) -> None:
    """Open a store of so many rows in new processes, its pages dropped or in memory."""
    place = _fill(folder, count)
    context = multiprocessing.get_context("spawn")
    cold, warm, work, memory = [], [], [], []
    for _ in range(rounds):
        drop_cached(folder)
        for times in (cold, warm):
            with ProcessPoolExecutor(1, context) as pool:
                passed, cpu, grown = pool.submit(_open, place, count).result()
            times.append(passed)
            work.append(cpu)
            memory.append(grown)
    shards = len(list(place.glob("shards/*")))
    shutil.rmtree(folder)
    found, nbytes = statistics.median(warm), statistics.median(memory)
    verdict = "met" if found < _TARGET_OPEN else "MISSED"
    print(
        f"\nopening {count} rows in {shards} shards, {rounds} rounds, medians: {found:.3f} s in "
        f"memory, {statistics.median(cold):.3f} s from disk, "
        f"{statistics.median(work):.3f} s of CPU, "
        f"{nbytes / 1e6:.0f} MB ({nbytes / count:.0f} bytes a row)"
    )
    if count == 1_000_000:
        print(f"target: {found:.3f} s, wanted below {_TARGET_OPEN}: {verdict}")


def _fill(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    store = FeatureStore.open(folder, recipe("float16"))
    for first in range(0, count, _SHARD):
        rows = min(_SHARD, count - first)
        keys = rng.integers(0, 256, (rows, 32), np.uint8)
        store.append(keys, rng.random((rows, _DIMS), np.float32))
    return store.folder


def _open(place: Path, count: int) -> tuple[float, float, float]:
    """Open until the first row is there: seconds, seconds of CPU, growth of the peak in bytes."""
    wanted = np.random.default_rng(0).integers(0, 256, (min(_SHARD, count), 32), np.uint8)[:1]
    passed = cpu = 0.0

    def work() -> FeatureStore:
        nonlocal passed, cpu
        began, before = time.perf_counter(), time.process_time()
        store = FeatureStore.at(place)
        row = store.read(wanted)
        passed, cpu = time.perf_counter() - began, time.process_time() - before
        assert row.shape == (1, _DIMS)
        assert store.rows == count
        return store

    nbytes = growth(work)
    return passed, cpu, nbytes


class _Opens:
    """Count what Python opens below a folder. (What its audit hook does not see, C libraries' own
    calls, have no part in a scan.)
    """

    def __init__(self, folder: Path) -> None:
        self._folder = os.fsencode(folder)
        self.paths: list[bytes] = []  # appending is safe in the threads that hash; counting is not
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[0], str | bytes | os.PathLike):
            path = os.fsencode(args[0])
            if path.startswith(self._folder):
                self.paths.append(path)


def measure_scan(folder: Path, count: int, rounds: int) -> None:
    """List and hash files that are remembered: time, and how many of them are opened."""
    data, out = folder / "data", folder / "out"
    out.mkdir(parents=True)
    for i in range(count):
        place = data / f"class{i % 100:02}"
        if i < 100:
            place.mkdir(parents=True)
        (place / f"image{i:06}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + i.to_bytes(8, "little"))
    time.sleep(0.1)  # so that the last file is not too young to be remembered
    opens = _Opens(data.absolute())
    first, _, _ = _scan(data, out)
    assert len(opens.paths) == count, len(opens.paths)
    opens.paths.clear()
    times, work = [], []
    for _ in range(rounds):
        passed, cpu, found = _scan(data, out)
        assert len(set(found)) == count
        times.append(passed)
        work.append(cpu)
    shutil.rmtree(folder)
    passed = statistics.median(times)
    good = passed < _TARGET_SCAN and not opens.paths
    print(
        f"\nscan of {count} unchanged files, {rounds} rounds, medians: {passed:.2f} s, "
        f"{statistics.median(work):.2f} s of CPU, {len(opens.paths)} files opened "
        f"(the first scan: {first:.2f} s, all opened)"
    )
    if count == 100_000:
        print(f"target: below {_TARGET_SCAN} s and none opened: {'met' if good else 'MISSED'}")


def _scan(data: Path, out: Path) -> tuple[float, float, list[Any]]:
    """Do what stage one does before the first image is decoded: seconds, of CPU too, and keys."""
    began, before = time.perf_counter(), time.process_time()
    dataset = load_dataset(str(data), out)
    index = FileIndex.load(out / "index")
    keys = hash_files(dataset.paths, index)
    index.save()
    return time.perf_counter() - began, time.process_time() - before, keys
