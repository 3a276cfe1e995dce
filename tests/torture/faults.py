"""Fault 3: every call to the system fails once, or from then on, one call after the other.

The calls are those of Python's ``os`` (libhdf5 writes through them as well). For each piece of work
they are counted first; then the work is done again for each call and each error that call may give.
A really full filesystem is added where one can be mounted.
"""

from __future__ import annotations

import errno
import io
import mmap
import os
import random
import resource
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache import CacheError, FeatureStore, RowBuffer
from cache.compaction import compact
from cache.garbage import find_garbage, keys_wanted, remove_garbage
from tests.torture.world import Tally, World, scratch

_ANY = (errno.EIO, errno.EINTR, errno.ENOMEM)
_NEW = (*_ANY, errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_OPEN = (*_ANY, errno.EMFILE, errno.ENFILE, errno.EACCES)
ERRORS: dict[str, tuple[int, ...]] = {
    "open": (*_OPEN, errno.ENOSPC),
    "close": (errno.EIO, errno.EINTR, errno.ENOSPC),
    "fsync": (errno.EIO, errno.ENOSPC, errno.EINTR),
    "pwrite": (*_NEW, errno.EFBIG),
    "preadv": _ANY,
    "ftruncate": _NEW,
    "link": (*_NEW, errno.EPERM, errno.EMLINK),
    "rename": _NEW,
    "replace": _NEW,
    "unlink": _ANY,
    "mkdir": _NEW,
    "fstat": _ANY,
    "lstat": _ANY,
    "stat": _ANY,
    "listdir": _OPEN,
    "lseek": _ANY,
}


class Injector:
    """Makes the ``n``-th call of a name fail, or all from there on, and counts calls."""

    def __init__(self, name: str = "", n: int = 0, number: int = 0, forever: bool = False) -> None:
        self.calls: Counter[str] = Counter()
        self._name, self._n, self._number, self._forever = name, n, number, forever

    def _fails(self, name: str) -> bool:
        self.calls[name] += 1
        count = self.calls[name]
        return name == self._name and (count == self._n or (self._forever and count > self._n))

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if self._fails(name):
                if self._number == 0:  # a short read or write instead of an error
                    return _short(name, real, *args)
                if name == "close":
                    real(*args)
                raise OSError(self._number, os.strerror(self._number), *args[:1])
            return real(*args, **options)

        return call

    @contextmanager
    def __call__(self) -> Iterator[Injector]:
        real = {(os, name): getattr(os, name) for name in ERRORS}
        real |= {(mmap, "mmap"): mmap.mmap, (io, "open"): io.open}
        names = {(io, "open"): "io.open"}
        for (module, name), function in real.items():
            wrapped = self._wrapped(names.get((module, name), name), function)
            setattr(module, name, wrapped)
        try:
            yield self
        finally:
            for (module, name), function in real.items():
                setattr(module, name, function)


def _short(name: str, real: Callable[..., Any], fd: int, data: Any, at: int) -> int:
    if name == "pwrite":
        return real(fd, memoryview(data)[:7], at)
    return real(fd, [memoryview(data[0])[:7]], at)


ERRORS_OF_ALL = ERRORS | {"mmap": (errno.ENOMEM, errno.ENODEV), "io.open": _OPEN}


@dataclass(frozen=True, slots=True)
class Work:
    """Something to do to a store, and which rows it reports as kept."""

    name: str
    prepare: str
    do: Callable[[World, Path], set[int]]


ROWS = 12


def _create(world: World, folder: Path) -> set[int]:
    store = FeatureStore.open(folder.parent, world.recipe)
    world.append(store, range(4))
    return set(range(4))


def _append(world: World, folder: Path) -> set[int]:
    store = FeatureStore.at(folder)
    world.append(store, range(8, 12))
    return set(range(8, 12))


def _again(world: World, folder: Path) -> set[int]:
    store = FeatureStore.at(folder)
    world.append(store, range(4, 8))
    return set(range(4, 8))


def _flush(world: World, folder: Path) -> set[int]:
    with RowBuffer(FeatureStore.at(folder), max_bytes=2 * world.dims * 4) as buffer:
        for n in range(8, 12):
            buffer.add(world.keys[n : n + 1], world.features[n : n + 1])
    return set(range(8, 12))


def _read(world: World, folder: Path) -> set[int]:
    store = FeatureStore.at(folder)
    store.missing(world.keys)
    assert (store.read(world.keys[:8]) == world.features[:8]).all()
    assert sum(len(block.keys) for block in store.blocks()) == 8
    return set()


def _check(world: World, folder: Path) -> set[int]:
    store = FeatureStore.at(folder)
    store.check()
    store.verify()
    return set()


def _compact(world: World, folder: Path) -> set[int]:
    compact(folder)
    return set()


def _collect(world: World, folder: Path) -> set[int]:
    wanted = keys_wanted(world.keys[1:8])
    remove_garbage(find_garbage(folder, wanted), wanted)
    return set()


WORKS = (
    Work("create a store", "nothing", _create),
    Work("append", "two shards", _append),
    Work("append what is kept", "two shards", _again),
    Work("append over damage", "second damaged", _again),
    Work("flush a buffer", "two shards", _flush),
    Work("read", "two shards", _read),
    Work("check", "two shards", _check),
    Work("check damage", "second damaged", _check),
    Work("compact", "two shards", _compact),
    Work("compact with damage", "second damaged", _compact),
    Work("gc", "of use", _collect),
)


class Bench:
    """Prepared stores, copied for each fault."""

    def __init__(self, root: Path) -> None:
        self.root, self.world = root, World(ROWS, 300)
        store = FeatureStore.open(root / "two shards", self.world.recipe)
        self.world.append(store, range(4))
        second = self.world.append(store, range(4, 8))
        shutil.copytree(root / "two shards", root / "second damaged")
        path = root / "second damaged" / store.folder.name / "shards" / second.name
        data = bytearray(path.read_bytes())
        data[-5000] ^= 255
        path.write_bytes(data)
        (root / "nothing").mkdir()
        shutil.copytree(root / "two shards", root / "of use")
        self._name = store.folder.name

    def copy(self, work: Work) -> tuple[Path, set[int]]:
        """Return the folder of a store made ready for some work, and the rows kept in it."""
        target = self.root / "work"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.root / work.prepare, target)
        kept = {"nothing": (0, 0), "two shards": (0, 8), "second damaged": (0, 4), "of use": (1, 8)}
        return target / self._name, set(range(*kept[work.prepare]))

    def faults(self, work: Work) -> list[tuple[str, int, int, bool]]:
        """List all faults of some work: (call, which one, error or 0 for a short one, forever)."""
        folder, _ = self.copy(work)
        with Injector()() as injector:
            work.do(self.world, folder)
        found = []
        for name, count in sorted(injector.calls.items()):
            for n in range(1, count + 1):
                errors = ERRORS_OF_ALL[name] + ((0,) if name in ("pwrite", "preadv") else ())
                found += [(name, n, number, False) for number in errors]
                found += [(name, n, number, True) for number in errors[:1]]
        return found

    def inject(self, work: Work, fault: tuple[str, int, int, bool], tally: Tally) -> None:
        """Do some work with one fault and judge what it left."""
        name, n, number, forever = fault
        folder, kept = self.copy(work)
        said = errno.errorcode.get(number, "short")
        what = f"{work.name}: {name} no. {n} {said}{' from then on' * forever}"
        open_before = len(list(Path("/proc/self/fd").iterdir()))
        tally.tried += 1
        with Injector(name, n, number, forever)():
            try:
                kept = kept | work.do(self.world, folder)
            except CacheError:
                pass
            except Exception as error:
                tally.tell(f"{what}: {error!r}", unclear=1)
        if len(list(Path("/proc/self/fd").iterdir())) > open_before:
            tally.tell(f"{what}: a file is left open", unclear=1)
        left = list((folder / "tmp").iterdir()) if (folder / "tmp").exists() else []
        # What could not be unlinked is left; nothing reads it.
        if left and name != "unlink":
            tally.tell(f"{what}: half files are left: {left}", unhealed=1)
        self.world.judge(folder, kept, tally, what)


def full_filesystem(root: Path, tally: Tally) -> str:
    """Append to a filesystem of 400 KiB until it is full, and go on once there is room."""
    mount = root / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "torture", str(mount)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    world = World(60, 700)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        kept: set[int] = set()
        store = FeatureStore.open(mount, world.recipe)
        if not mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limit[1]))
        for size in (4, 4, 4, 4, 8, 20, 3, 2, 1, 1):
            rows = range(len(kept), len(kept) + size)
            tally.tried += 1
            with suppress(CacheError):
                world.append(store, rows)
                kept |= set(rows)
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert store.check() == []
        if any((store.folder / "tmp").iterdir()):
            tally.tell("full filesystem: half files are left", unhealed=1)
        tally.lost += len(store.missing(world.keys[sorted(kept)]))
        if mounted:
            subprocess.run(["mount", "-o", "remount,size=4m", str(mount)], check=True)
        world.judge(store.folder, kept, tally, "full filesystem")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        if mounted:
            subprocess.run(["umount", "-l", str(mount)], check=True)
    return "a full tmpfs was mounted" if mounted else "no mount allowed: RLIMIT_FSIZE instead"


def run(seconds: float, seed: int) -> Tally:
    """Inject all faults in a random order until all are done or the time is over."""
    tally = Tally("faults")
    end = time.monotonic() + seconds
    with scratch() as root:
        tally.notes.append(full_filesystem(root, tally))
        bench = Bench(root)
        plan = [(work, fault) for work in WORKS for fault in bench.faults(work)]
        random.Random(seed).shuffle(plan)
        done = 0
        for work, fault in plan:
            if done > 30 and time.monotonic() > end:
                break
            bench.inject(work, fault, tally)
            done += 1
    tally.notes.append(f"{done} of {len(plan)} single calls that can fail")
    return tally
