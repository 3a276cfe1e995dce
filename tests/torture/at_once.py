"""Fault 6: many processes at once on one store, some of them killed, and stores that lack things.

Eight processes append overlapping rows while others check and repair, compact, and read. In some
rounds hard links are refused in all of them, as some network filesystems do, in some there is
damage at the beginning that several find at the same time. In every third round three runs of the
real stage one go over the same images, and one of them may be killed. Each process does a number of
steps that follows from the seed; how they take turns does not.
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
from tests.torture.stage import Images, Stage
from tests.torture.world import Budget, Tally, World, scratch, seeded
from tests.torture.wounds import OF_ROWS, REGIONS, damage

WRITERS = 8
GOAL = 60
BASE = 40
ROWS = 160
_GAVE_UP = b"-"
_KEPT = struct.Struct("<I")


class Round:
    """One store and the processes that work on it."""

    def __init__(self, world: World, root: Path, seed: str) -> None:
        self.world, self.root = world, root
        rng = seeded(seed)
        self.links, self.damage = rng.random() < 0.6, rng.random() < 0.7
        self.steps = rng.randrange(4, 16)
        store = FeatureStore.open(root, world.recipe)
        for low in range(0, BASE, 10):
            world.append(store, range(low, low + 10))
        self.folder = store.folder
        self.damaged = [range(low, low + 8) for low in range(BASE, BASE + 32, 8)]
        for rows in self.damaged if self.damage else ():
            path = world.append(store, rows)
            damage(path, rng.choice([*REGIONS, *OF_ROWS]), rng)

    def begin(self, seed: str) -> random.Random:
        if not self.links:

            def refuse(*_: object, **__: object) -> None:
                raise OSError(errno.EPERM, os.strerror(errno.EPERM))

            os.link = refuse  # type: ignore[assignment]
        return seeded(seed)

    def write(self, pipe: int, seed: str) -> None:
        """Append parts of the rows, most of which others append as well.

        Two of the damaged shards are left to whoever comes afterwards: had damage been copied, it
        would still be there.
        """
        rng = self.begin(seed)
        store = FeatureStore.open(self.root, self.world.recipe)
        for _ in range(self.steps):
            low = rng.randrange(BASE + 32, ROWS - 8) // 8 * 8
            rows = rng.choice(self.damaged[:2]) if rng.random() < 0.2 else range(low, low + 8)
            self.world.append(store, rows)
            os.write(pipe, b"".join(map(_KEPT.pack, rows)))

    def repair(self, pipe: int, seed: str) -> None:
        rng = self.begin(seed)
        for _ in range(2 * self.steps):
            store = FeatureStore.at(self.folder)
            if rng.random() < 0.5:
                store.check()
            else:
                store.verify(repair=True)

    def merge(self, pipe: int, seed: str) -> None:
        rng = self.begin(seed)
        for _ in range(2 * self.steps):
            try:
                compact(self.folder, target_bytes=rng.choice([5_000, 20_000, 1 << 20]))
            except CacheError:  # a repair took a shard away under it, and it says so
                os.write(pipe, _GAVE_UP)

    def read(self, pipe: int, seed: str) -> None:
        """Read rows that were kept before all began: each time all of them, and right."""
        rng = self.begin(seed)
        store = FeatureStore.at(self.folder)
        for _ in range(10 * self.steps):
            numbers = rng.sample(range(BASE), 9)
            found = store.read(self.world.keys[numbers])
            if not (found == self.world.features[numbers]).all():
                os.write(pipe, b"misread")
            store.refresh()


def round_at_once(world: World, root: Path, seed: str, tally: Tally) -> None:
    """Let all work at once, kill some, and judge what is there then."""
    rng = seeded(seed)
    here = Round(world, root, seed)
    writers = [start(lambda pipe, n=n: here.write(pipe, f"{seed} w{n}")) for n in range(WRITERS)]
    readers = [start(lambda pipe, n=n: here.read(pipe, f"{seed} r{n}")) for n in range(2)]
    others = [
        start(lambda pipe: here.repair(pipe, f"{seed} repair")),
        start(lambda pipe: here.merge(pipe, f"{seed} merge")),
    ]
    if rng.random() < 0.5:
        others.append(start(lambda pipe: here.repair(pipe, f"{seed} another")))
    victims: list[Child] = rng.sample([*writers, *others], rng.randrange(5))
    for victim in victims:
        time.sleep(rng.uniform(0, 0.2))
        victim.kill()
    kept = set(range(BASE))
    for child in [*writers, *others, *readers]:
        said, code = child.wait()
        if child in writers:
            kept |= {row for (row,) in _KEPT.iter_unpack(said[: len(said) // 4 * 4])}
        elif said.strip(_GAVE_UP):
            tally.tell(f"seed {seed}: {said[:20]!r}", misread=1)
        if code and child not in victims:
            role = "writer" if child in writers else "reader" if child in readers else "other"
            tally.tell(f"seed {seed}: a {role} ended with {code}", unclear=1)
    tally.tried += len(writers) + len(others) + len(readers)
    world.judge(here.folder, kept, tally, f"seed {seed}, links {here.links}")


def stages_at_once(images: Images, root: Path, seed: str, tally: Tally) -> None:
    """Let three runs of stage one go over the same images, and kill one or none."""
    rng, stage = seeded(seed), Stage(images)
    runs = []
    for _ in range(3):
        runs.append(start(lambda pipe: stage.work(root, pipe, seed)))
        time.sleep(rng.choice([0.0, rng.uniform(0, 0.2)]))
    victim = rng.choice([None, *runs])
    if victim is not None:
        victim.kill()
    ended = [(child, *child.wait()) for child in runs]
    for child, _, code in ended:
        if code and child is not victim:
            tally.tell(f"seed {seed}: a run ended with {code}", unclear=1)
    tally.tried += len(runs)
    tally.states += 1
    stage.look(root, b"".join(said for _, said, _ in ended), tally, f"seed {seed}")
    stage.at_the_end(root, tally, f"seed {seed}")


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


def run(tally: Tally, budget: Budget, seed: int) -> None:
    """Do rounds as long as there is a budget of them, of each sort at least one."""
    world, rounds, stages = World(ROWS, 50), 0, 0
    with scratch() as root:
        tally.notes.append(read_only(root, tally))
        images = Stage.prepared(root / "undisturbed")
        while rounds == 0 or budget.allows(rounds + stages):
            if rounds > 2 * stages:
                stages_at_once(images, root / "store", f"{seed} stages {stages}", tally)
                stages += 1
            else:
                round_at_once(world, root / "store", f"{seed} round {rounds}", tally)
                rounds += 1
            shutil.rmtree(root / "store")
    tally.share = min(1.0, (rounds + stages) / GOAL)
    tally.notes.append(f"{rounds} rounds of writers, {stages} of stage one")
