"""Fault 3: every call to the system fails once, or from then on, one call after the other.

The calls are those of Python's ``os`` (libhdf5 writes through them as well). For each piece of work
they are counted first; then the work is done again for each call and each error that call may give.
A really full filesystem is added where one can be mounted. After an error from fsync or close the
store is judged twice: as it is read now, and as it will be when the pages that were not written are
gone (`pages`).
"""

from __future__ import annotations

import errno
import io
import mmap
import os
import resource
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from cache import CacheError, FeatureStore, RowBuffer
from cache.compaction import compact
from cache.garbage import find_garbage, keys_wanted, remove_garbage
from cache.integrity import load_checked
from cache.shard import State
from tests.torture.inline import without_threads
from tests.torture.pages import Pages
from tests.torture.world import Budget, Tally, World, scratch, seeded
from tests.torture.wounds import damage

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

    def __init__(
        self,
        pages: Pages,
        name: str = "",
        n: int = 0,
        number: int = 0,
        forever: bool = False,
    ) -> None:
        self.calls: Counter[str] = Counter()
        self._pages = pages
        self._name, self._n, self._number, self._forever = name, n, number, forever

    def _fails(self, name: str) -> bool:
        self.calls[name] += 1
        count = self.calls[name]
        return name == self._name and (count == self._n or (self._forever and count > self._n))

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if self._fails(name):
                if self._number == 0:  # a short read or write instead of an error
                    self._pages.before(name, args)
                    return _short(name, real, *args)
                self._pages.failed(name, args)
                if name == "close":
                    real(*args)
                raise OSError(self._number, os.strerror(self._number), *args[:1])
            self._pages.before(name, args)
            result = real(*args, **options)
            self._pages.after(name, args, result)
            return result

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


Report: TypeAlias = Callable[[Iterable[int]], None]


@dataclass(frozen=True, slots=True)
class Work:
    """Something to do to a store; what it reports as kept it tells by row."""

    name: str
    prepare: str
    do: Callable[[World, Path, Report], None]


ROWS = 16
# Stores to begin with, and which rows are kept in them. The second of three shards is damaged, or
# the third was copied in and nobody synced it; "of use" is two shards without two of their rows.
KEPT: dict[str, set[int]] = {
    "nothing": set(),
    "two shards": set(range(8)),
    "second damaged": {*range(4), *range(8, 12)},
    "third copied in": set(range(8)),
    "of use": set(range(1, 7)),
    "of no use": set(),
}


def _create(world: World, folder: Path, report: Report) -> None:
    _append_to(world, FeatureStore.open(folder.parent, world.recipe), range(4), report)


def _append(world: World, folder: Path, report: Report) -> None:
    _append_to(world, FeatureStore.at(folder), range(8, 12), report)


def _again(world: World, folder: Path, report: Report) -> None:
    _append_to(world, FeatureStore.at(folder), range(4, 8), report)


def _append_to(world: World, store: FeatureStore, rows: range, report: Report) -> None:
    world.append(store, rows)
    report(rows)


def _flush(world: World, folder: Path, report: Report) -> None:
    first = 8

    def told(rows: int, nbytes: int) -> None:
        nonlocal first
        report(range(first, first + rows))
        first += rows

    store = FeatureStore.at(folder)
    with RowBuffer(store, max_bytes=2 * world.dims * 4, on_commit=told) as buffer:
        for n in range(8, 12):
            buffer.add(world.keys[n : n + 1], world.features[n : n + 1])


def _read(world: World, folder: Path, report: Report) -> None:
    store = FeatureStore.at(folder)
    store.missing(world.keys)
    assert (store.read(world.keys[:8]) == world.features[:8]).all()
    assert sum(len(block.keys) for block in store.blocks()) == 8


def _check(world: World, folder: Path, report: Report) -> None:
    store = FeatureStore.at(folder)
    store.check()
    store.verify()


def _compact(world: World, folder: Path, report: Report) -> None:
    compact(folder)


def _collect(world: World, folder: Path, report: Report) -> None:
    wanted = keys_wanted(world.keys[1:7])
    remove_garbage(find_garbage(folder, wanted), wanted)


def _collect_all(world: World, folder: Path, report: Report) -> None:
    wanted = keys_wanted(world.keys[15:])
    remove_garbage(find_garbage(folder, wanted), wanted)


WORKS = (
    Work("create a store", "nothing", _create),
    Work("append", "two shards", _append),
    Work("append what is kept", "two shards", _again),
    Work("append over damage", "second damaged", _again),
    Work("append what was copied in", "third copied in", _append),
    Work("flush a buffer", "two shards", _flush),
    Work("read", "two shards", _read),
    Work("check", "two shards", _check),
    Work("check damage", "second damaged", _check),
    Work("check what was copied in", "third copied in", _check),
    Work("compact", "two shards", _compact),
    Work("compact with damage", "second damaged", _compact),
    Work("compact what was copied in", "third copied in", _compact),
    Work("gc", "of use", _collect),
    Work("gc of a whole store", "of no use", _collect_all),
)


_Stats: TypeAlias = frozenset[tuple[str, State]]
_Contents: TypeAlias = frozenset[tuple[str, bytes]]


def _stats(root: Path) -> _Stats:
    """State of each file below a folder: where it is the same, nothing has changed."""
    return frozenset((str(path), State.of(path.lstat())) for path in root.rglob("*"))


def _contents(folder: Path) -> _Contents:
    """Content of each file below a folder; of checked.json, which entries hold."""
    found = set()
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.name == "checked.json":
            for shard, state in load_checked(path).items():
                there = folder / "shards" / shard
                found.add((f"checked {shard}", b"%d" % (_state(there) == state)))
        elif path.parent.name in ("tmp", "quarantine"):  # names that are never the same
            found.add((path.parent.name, path.read_bytes() if path.is_file() else b""))
        else:
            found.add((name, path.read_bytes() if path.is_file() else b""))
    return frozenset(found)


def _state(path: Path) -> State | None:
    return State.of(path.lstat()) if path.exists() else None


class Bench:
    """Prepared stores, copied for each fault."""

    def __init__(self, root: Path) -> None:
        self.root, self.world = root, World(ROWS, 300)
        store = FeatureStore.open(root / "two shards", self.world.recipe)
        self._name = store.folder.name
        self._ready: tuple[str, _Stats] | None = None
        self._judged: set[tuple[_Contents, frozenset[int]]] = set()
        self.world.append(store, range(4))
        second = self.world.append(store, range(4, 8))
        (root / "nothing").mkdir()
        for name in ("of use", "of no use", "third copied in", "second damaged"):
            shutil.copytree(root / "two shards", root / name)
        third = FeatureStore.at(root / "third copied in" / self._name)
        self._third = self.world.append(third, range(8, 12)).name
        damaged = FeatureStore.at(root / "second damaged" / self._name)
        self.world.append(damaged, range(8, 12))
        damage(damaged.folder / "shards" / second.name, "features", seeded("damaged"))

    def copy(self, work: Work) -> tuple[Path, Pages]:
        """Return the folder of a store made ready for some work, and what is not durable there."""
        target = self.root / "work"
        if (work.prepare, _stats(target)) != self._ready:
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(self.root / work.prepare, target)
            self._ready = work.prepare, _stats(target)
        third = target / self._name / "shards" / self._third
        return target / self._name, Pages(target, [third] * (work.prepare == "third copied in"))

    def judge(self, folder: Path, kept: set[int], tally: Tally, what: str) -> None:
        """Judge a store, unless one with the same files was judged and found right."""
        state = _contents(folder), frozenset(kept)
        if state not in self._judged:
            before = tally.failures
            self.world.judge(folder, kept, tally, what)
            if tally.failures == before:
                self._judged.add(state)

    def faults(self, work: Work, tally: Tally) -> list[tuple[str, int, int, bool]]:
        """List all faults of some work: (call, which one, error or 0 for a short one, forever)."""
        folder, pages = self.copy(work)
        with Injector(pages)() as injector:
            try:
                work.do(self.world, folder, lambda rows: None)
            except CacheError as error:
                tally.tell(f"{work.name}, undisturbed: {error}", unclear=1)
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
        folder, pages = self.copy(work)
        kept = set(KEPT[work.prepare])
        said = errno.errorcode.get(number, "short")
        what = f"{work.name}: {name} no. {n} {said}{' from then on' * forever}"
        open_before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        tally.tried += 1
        with Injector(pages, name, n, number, forever)():
            try:
                work.do(self.world, folder, kept.update)
            except CacheError:
                pass
            except Exception as error:
                tally.tell(f"{what}: {error!r}", unclear=1)
        if len(os.listdir("/proc/self/fd")) > open_before:  # noqa: PTH208
            tally.tell(f"{what}: a file is left open", unclear=1)
        left = list((folder / "tmp").iterdir()) if (folder / "tmp").exists() else []
        # What could not be unlinked is left; nothing reads it.
        if left and name != "unlink":
            tally.tell(f"{what}: half files are left: {left}", unhealed=1)
        if pages.harmed and folder.exists():
            later = self.root / "later"
            shutil.rmtree(later, ignore_errors=True)
            pages.later(folder, later / folder.name)
            self.judge(later / folder.name, kept, tally, f"{what}, and later a crash")
        self.judge(folder, kept, tally, what)


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


def run(tally: Tally, budget: Budget, seed: int) -> None:
    """Inject all faults in a random order until all are done or the budget is."""
    with scratch() as root, without_threads():
        tally.notes.append(full_filesystem(root, tally))
        bench = Bench(root)
        plan = [(work, fault) for work in WORKS for fault in bench.faults(work, tally)]
        seeded(seed, "faults").shuffle(plan)
        done = 0
        while done < len(plan) and budget.allows(done):
            bench.inject(*plan[done], tally)
            done += 1
    tally.share = done / len(plan)
    tally.notes.append(f"{done} of {len(plan)} faults of single calls")
