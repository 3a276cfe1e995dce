"""Fault 6: many processes at once on one store, some of them killed, and stores that lack things.

Eight processes append overlapping rows while others check and repair, compact, and read. In some
rounds hard links are refused in all of them, as some network filesystems do, in some there is
damage at the beginning that several find at the same time.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import struct
import subprocess
import time
from pathlib import Path

from cache import CacheError, FeatureStore
from cache.compaction import compact
from tests.torture.children import Child, start
from tests.torture.world import Tally, World, scratch

WRITERS = 8
BASE = 40
ROWS = 160
_KEPT = struct.Struct("<I")


class Round:
    """One store and the processes that work on it."""

    def __init__(self, world: World, root: Path, seed: int) -> None:
        self.world, self.root, self.seed = world, root, seed
        rng = random.Random(seed)
        self.links, self.damage = rng.random() < 0.6, rng.random() < 0.5
        self.end = time.time() + rng.uniform(0.3, 1.0)
        store = FeatureStore.open(root, world.recipe)
        for low in range(0, BASE, 10):
            world.append(store, range(low, low + 10))
        self.folder = store.folder
        self.damaged = range(BASE, BASE + 8)
        if self.damage:
            path = world.append(store, self.damaged)
            data = bytearray(path.read_bytes())
            data[rng.randrange(len(data))] ^= 255
            path.write_bytes(data)

    def begin(self, seed: int) -> random.Random:
        if not self.links:

            def refuse(*_: object, **__: object) -> None:
                raise OSError(errno.EPERM, os.strerror(errno.EPERM))

            os.link = refuse  # type: ignore[assignment]
        return random.Random(seed)

    def write(self, pipe: int, seed: int) -> None:
        """Append parts of the rows, most of which others append as well."""
        rng = self.begin(seed)
        store = FeatureStore.open(self.root, self.world.recipe)
        while time.time() < self.end:
            low = rng.randrange(BASE, ROWS - 8) // 8 * 8
            rows = self.damaged if rng.random() < 0.2 else range(low, low + 8)
            self.world.append(store, rows)
            os.write(pipe, b"".join(map(_KEPT.pack, rows)))

    def repair(self, pipe: int, seed: int) -> None:
        rng = self.begin(seed)
        while time.time() < self.end:
            store = FeatureStore.at(self.folder)
            if rng.random() < 0.5:
                store.check()
            else:
                store.verify(repair=True)

    def merge(self, pipe: int, seed: int) -> None:
        rng = self.begin(seed)
        while time.time() < self.end:
            compact(self.folder, target_bytes=rng.choice([5_000, 20_000, 1 << 20]))

    def read(self, pipe: int, seed: int) -> None:
        """Read rows that were kept before all began: each time all of them, and right."""
        rng = self.begin(seed)
        store = FeatureStore.at(self.folder)
        while time.time() < self.end:
            numbers = rng.sample(range(BASE), 9)
            found = store.read(self.world.keys[numbers])
            if not (found == self.world.features[numbers]).all():
                os.write(pipe, b"misread")
            store.refresh()


def round_at_once(world: World, root: Path, seed: int, tally: Tally) -> None:
    """Let all work at once, kill some, and judge what is there then."""
    rng = random.Random(seed)
    here = Round(world, root, seed)
    writers = [start(lambda pipe, n=n: here.write(pipe, seed + n)) for n in range(WRITERS)]
    readers = [start(lambda pipe, n=n: here.read(pipe, seed + n)) for n in range(2)]
    others = [
        start(lambda pipe: here.repair(pipe, seed)),
        start(lambda pipe: here.merge(pipe, seed)),
    ]
    if rng.random() < 0.5:
        others.append(start(lambda pipe: here.repair(pipe, seed + 1)))
    victims: list[Child] = rng.sample([*writers, *others], rng.randrange(5))
    for victim in victims:
        time.sleep(rng.uniform(0, 0.2))
        victim.kill()
    kept = set(range(BASE))
    for child in [*writers, *others, *readers]:
        said, code = child.wait()
        if child in writers:
            kept |= {row for (row,) in _KEPT.iter_unpack(said[: len(said) // 4 * 4])}
        elif said:
            tally.tell(f"seed {seed}: {said[:20]!r}", misread=1)
        if code and child not in victims:
            role = "writer" if child in writers else "reader" if child in readers else "other"
            tally.tell(f"seed {seed}: a {role} ended with {code}", unclear=1)
    tally.tried += len(writers) + len(others) + len(readers)
    world.judge(here.folder, kept, tally, f"seed {seed}, links {here.links}")


def read_only(root: Path, tally: Tally) -> str:
    """Open, check, verify and read on a filesystem that is mounted read-only."""
    mount, world = root / "mount", World(12, 50)
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "torture", str(mount)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return "no mount allowed: no read-only filesystem"
    try:
        store = FeatureStore.open(mount, world.recipe)
        world.append(store, range(6))
        bad = world.append(store, range(6, 12))
        bad.write_bytes(bad.read_bytes()[:-1])
        subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
        tally.tried += 1
        tally.states += 1
        reader = FeatureStore.open(mount, world.recipe)
        findings = [*reader.check(), *reader.verify()]
        missing, wrong = world.misread(reader)
        tally.misread += wrong
        tally.lost += len(set(missing.tolist()) & set(range(6)))
        if [finding.shard for finding in findings] != [bad.name] * 2:
            tally.tell(f"read-only: {findings}", misread=1)
        try:
            world.append(reader, range(6, 12))
            tally.tell("read-only: appended", unclear=1)
        except CacheError:
            pass
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)
    return "a filesystem was mounted read-only"


def run(seconds: float, seed: int) -> Tally:
    """Do rounds until the time is over."""
    tally, world, rounds = Tally("at once"), World(ROWS, 50), 0
    end = time.monotonic() + seconds
    with scratch() as root:
        tally.notes.append(read_only(root, tally))
        while rounds == 0 or time.monotonic() < end:
            round_at_once(world, root / "store", seed * 1009 + rounds, tally)
            shutil.rmtree(root / "store")
            rounds += 1
    tally.notes.append(f"{rounds} rounds")
    return tally
