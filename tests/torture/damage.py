"""Fault 4: shards damaged on disk in every region and in every way that comes to mind."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

from cache import FeatureStore
from cache.header import BLOCK, parse
from tests.torture.inline import without_threads
from tests.torture.world import FOREIGN, Budget, Tally, World, scratch, seeded
from tests.torture.wounds import REGIONS, put, regions

SHARDS = 16
PER_SHARD = 4


class Damager:
    """Shards as they were written, and ways to put damaged ones in their place."""

    def __init__(self, root: Path) -> None:
        self.world = World(SHARDS * PER_SHARD, 1100)
        self.parts = [range(i * PER_SHARD, (i + 1) * PER_SHARD) for i in range(SHARDS)]
        store = FeatureStore.open(root / "pristine", self.world.recipe)
        self.names = [self.world.append(store, part).name for part in self.parts]
        self.data = [(store.folder / "shards" / name).read_bytes() for name in self.names]
        self.headers = [parse(data[:BLOCK]) for data in self.data]
        self.recipe_json = (store.folder / "recipe.json").read_bytes()
        other = FeatureStore.open(root / "other", FOREIGN)
        foreign = World(self.world.rows, self.world.dims, FOREIGN)
        paths = [foreign.append(other, part) for part in self.parts]
        self.foreign = [(path.name, path.read_bytes()) for path in paths]

    def fresh(self, root: Path) -> Path:
        """Return the folder of a store that has all shards undamaged."""
        folder = root / self.world.recipe.name
        for part in ("shards", "tmp", "quarantine"):
            (folder / part).mkdir(parents=True)
        (folder / "recipe.json").write_bytes(self.recipe_json)
        for name, data in zip(self.names, self.data, strict=True):
            (folder / "shards" / name).write_bytes(data)
        return folder

    def changed(self, random: random.Random, i: int) -> tuple[str, bytes]:
        """Return a kind of damage and what it makes of the bytes of shard ``i``."""
        data, parts = self.data[i], regions(self.headers[i])
        kind = random.choice(["flip"] * 5 + ["flips", "zero", "double", "insert", "cut", "grow"])
        region = random.choice(REGIONS)
        low, high = random.choice(parts[region])
        at = random.randrange(low, high)
        page = at // BLOCK * BLOCK
        other = random.randrange(len(data) // BLOCK) * BLOCK
        new = bytearray(data)
        if kind == "flip":
            new[at] ^= 1 << random.randrange(8)
        elif kind == "flips":
            for _ in range(random.randrange(2, 9)):
                new[random.randrange(low, high)] = random.randrange(256)
        elif kind == "zero":
            new[page : page + BLOCK] = bytes(len(data[page : page + BLOCK]))
        elif kind == "double":
            new[page : page + BLOCK] = data[other : other + len(data[page : page + BLOCK])]
        elif kind == "insert":
            new[page:page] = data[page : page + BLOCK]
        elif kind == "cut":
            edge = random.choice([at, page, low, len(data) - 1, len(data) - BLOCK])
            del new[edge:]
        else:
            new += random.choice([b"\0", bytes(BLOCK), data[-BLOCK:]])
        return f"{kind} in {region}", bytes(new)

    def exchanged(self, random: random.Random, i: int) -> tuple[str, bytes]:
        """Return bytes for shard ``i`` that are or have parts of another shard."""
        j = random.choice([j for j in range(SHARDS) if j != i])
        foreign = self.foreign[random.choice([i, j])][1]
        other = random.choice([self.data[j], foreign])
        edge = random.randrange(1, len(other) // BLOCK) * BLOCK
        return random.choice(
            [
                ("another shard", self.data[j]),
                ("a shard of another recipe", foreign),
                ("head of another", other[:edge] + self.data[i][edge:]),
                ("tail of another", self.data[i][:edge] + other[edge:]),
                ("page of another", self._with_page(random, i, other)),
                ("nothing", b""),
            ]
        )

    def _with_page(self, random: random.Random, i: int, other: bytes) -> bytes:
        page = random.randrange(1, len(other) // BLOCK) * BLOCK
        new = bytearray(self.data[i])
        new[page : page + BLOCK] = other[page : page + BLOCK]
        return bytes(new)

    def renamed(self, random: random.Random, i: int) -> str:
        """Return another name for shard ``i``."""
        recipe, rows, digest = self.names[i][:-3].split("-")
        return random.choice(
            [
                f"{recipe}-{int(rows) + 1}-{digest}.h5",
                f"{recipe}-{rows}-{digest[::-1]}.h5",
                f"{recipe[::-1]}-{rows}-{digest}.h5",
                f"{recipe}-0{rows}-{digest}.h5",
                f"copy of {self.names[i]}",
                self.foreign[i][0],
            ]
        )


def round_of_damage(
    damager: Damager, root: Path, seed: str, tally: Tally, kinds: Counter[str]
) -> None:
    """Damage some shards of one store, then check, read and heal it."""
    rng = seeded(seed)
    world, folder = damager.world, damager.fresh(root)
    store = FeatureStore.at(folder)
    if rng.random() < 0.7:
        store.check()  # all passed once, and that is remembered
        world.misread(store)  # and all are mapped
    victims = rng.sample(range(SHARDS), rng.randrange(1, SHARDS + 1))
    done = set()
    for i in victims:
        path = folder / "shards" / damager.names[i]
        way = rng.random()
        if way < 0.7:
            what, data = damager.changed(rng, i)
            if data == damager.data[i]:
                continue
            put(path, data, rng)
        elif way < 0.9:
            what, data = damager.exchanged(rng, i)
            put(path, data, rng)
        else:
            what = "renamed"
            path.rename(path.with_name(damager.renamed(rng, i)))
        kinds[what] += 1
        done.add(i)
    tally.tried += len(done)
    heal = rng.choice(["as before", "as one", "before the check"])
    if heal == "before the check":
        writer = FeatureStore.at(folder)
        for i in sorted(done):
            path = world.append(writer, damager.parts[i])
            if path.name != damager.names[i] or path.read_bytes() != damager.data[i]:
                tally.tell(f"seed {seed}: shard {i} was not replaced", unhealed=1)
    kept = {row for i in range(SHARDS) if i not in done for row in damager.parts[i]}
    if heal == "before the check":
        kept = set(range(world.rows))
    opened = rng.choice([store, None])
    parts = damager.parts if heal == "as before" else None
    world.judge(folder, kept, tally, f"seed {seed}, {heal}", opened, parts)
    if heal == "as before":
        for name, data in zip(damager.names, damager.data, strict=True):
            path = folder / "shards" / name
            if not path.exists() or path.read_bytes() != data:
                tally.tell(f"seed {seed}: {name} was not replaced", unhealed=1)
    shutil.rmtree(folder)


def run(tally: Tally, budget: Budget, seed: int) -> None:
    """Damage shards as long as there is a budget of damages."""
    kinds, rounds = Counter[str](), 0
    with scratch() as root, without_threads():
        damager = Damager(root)
        while budget.allows(tally.tried):
            round_of_damage(damager, root / "store", f"{seed} round {rounds}", tally, kinds)
            rounds += 1
    tally.notes.append(f"{len(kinds)} kinds of damage and region")
