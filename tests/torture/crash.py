"""Fault 2: every state that a crash may leave of what the cache does to files and folders.

The work is recorded call by call (`record`). After each call a crash may come. POSIX then promises
what was synced and no more:

- a name may mean what it meant at the last sync of its folder, or anything it meant since; each
  name for itself, so that a rename across folders may have happened at one end only
- of the writes to a file since its last sync any may be there and any not, in any order, each of
  their 512-byte sectors for itself; its size may be any of those it had

Names are enumerated exhaustively up to `NAMES` combinations after each call and sampled beyond.
Data is sampled: nothing, all, each prefix, each write alone missing, zeros or noise of the right
size, a few random sets of sectors, and a few sectors alone missing. States that are the same in
names, contents and promises are opened once.

The states of a scene are judged in a random order, those after the first report of kept rows and
those before it in turns; the scenes take turns as well.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cache import CacheError, FeatureStore, RowBuffer
from cache.compaction import compact, drop_rows
from cache.garbage import Garbage, find_garbage, keys_wanted, remove_garbage
from cache.rewrite import Wanted
from cache.shard import State
from tests.torture.inline import without_threads
from tests.torture.record import Blocked, Op, Recorder
from tests.torture.world import Budget, Tally, World, scratch, seeded
from tests.torture.wounds import damage

SECTOR = 512
NAMES = 128
TORN = 4
ROWS = 16
CHUNK = 20
_REMEMBERED = "checked.json"


class Disk:
    """What is durable and what is pending, after some of the calls of a record."""

    def __init__(self, recorder: Recorder) -> None:
        self.history: dict[str, list[int | None]] = {
            name: [number] for name, number in recorder.names.items()
        }
        self.durable: dict[int, bytes] = dict(recorder.files)
        self.pending: dict[int, list[Op]] = {}
        self.kept: set[int] = set()

    def apply(self, op: Op) -> None:
        """Take in one more call."""
        if op.kind == "kept":
            self.kept |= op.rows
        elif op.kind == "name":
            self.history.setdefault(op.path, [None]).append(op.file)
        elif op.kind == "sync folder":
            for name, history in self.history.items():
                if os.path.dirname(name) == op.path:  # noqa: PTH120 - names, not paths
                    del history[:-1]
        elif op.kind == "sync":
            self.durable[op.file] = self.content(op.file, self.pending.pop(op.file, []))
        else:
            self.pending.setdefault(op.file, []).append(op)

    def content(self, number: int, ops: list[Op]) -> bytes:
        """Return a file's durable content with some of its pending writes."""
        data = bytearray(self.durable.get(number, b""))
        for op in ops:
            if op.kind == "size":
                del data[op.at :]
                data.extend(bytes(op.at - len(data)))
            else:
                data.extend(bytes(max(0, op.at - len(data))))
                data[op.at : op.at + len(op.data)] = op.data
        return bytes(data)

    def contents(self, number: int, rng: random.Random) -> list[bytes]:
        """Return what a crash may leave of a file."""
        ops = self.pending.get(number, [])
        if not ops:
            return [self.durable.get(number, b"")]
        whole = self.content(number, ops)
        found = [whole, bytes(len(whole)), rng.randbytes(len(whole))]
        found += [self.content(number, ops[:n]) for n in range(len(ops))]
        found += [self.content(number, ops[:n] + ops[n + 1 :]) for n in range(len(ops))]
        sectors = [sector for op in ops for sector in _sectors(op)]
        for _ in range(TORN):
            some = [sector for sector in sectors if rng.random() < 0.7]
            rng.shuffle(some)
            found.append(self.content(number, some))
            gone = rng.randrange(len(sectors))
            found.append(self.content(number, sectors[:gone] + sectors[gone + 1 :]))
        return list(dict.fromkeys(found))

    def names(self, rng: random.Random) -> Iterator[dict[str, int]]:
        """Iterate over what a crash may leave of the names."""
        choices = {
            name: list(dict.fromkeys(history)) for name, history in sorted(self.history.items())
        }
        product = itertools.product(*choices.values())
        count = 1
        for each in choices.values():
            count *= len(each)
        if count > NAMES:
            latest = tuple(history[-1] for _, history in sorted(self.history.items()))
            sampled = (tuple(map(rng.choice, choices.values())) for _ in range(NAMES - 1))
            product = itertools.chain([latest], sampled)
        for state in product:
            named = {
                name: number
                for name, number in zip(choices, state, strict=True)
                if number is not None
            }
            yield {name: n for name, n in named.items() if _reachable(name, named)}

    def states(self, rng: random.Random) -> Iterator[tuple[dict[str, int], dict[int, bytes]]]:
        """Iterate over the states a crash may leave: names, and contents of the named files."""
        for names in self.names(rng):
            numbers = sorted({number for number in names.values() if number >= 0})
            choices = {number: self.contents(number, rng) for number in numbers}
            base = {number: each[0] for number, each in choices.items()}
            read = {number for name, number in names.items() if "/tmp/" not in name}
            yield names, base
            for number in numbers:
                # What lies in tmp/ is never read: one torn one will do.
                others = choices[number][1:] if number in read else choices[number][-1:]
                for content in others:
                    yield names, base | {number: content}


def _sectors(op: Op) -> Iterator[Op]:
    if op.kind == "size":
        yield op
        return
    start = op.at
    while start < op.at + len(op.data):
        stop = min((start // SECTOR + 1) * SECTOR, op.at + len(op.data))
        yield Op("write", file=op.file, at=start, data=op.data[start - op.at : stop - op.at])
        start = stop


def _reachable(name: str, names: dict[str, int]) -> bool:
    above = os.path.dirname(name)  # noqa: PTH120
    return not above or (names.get(above) == -1 and _reachable(above, names))


def build(
    root: Path, names: dict[str, int], contents: dict[int, bytes], recorder: Recorder
) -> None:
    """Put a state on the disk: what was recorded as checked keeps inode, size and times."""
    made: dict[int, Path] = {}
    memories = []
    for name, number in sorted(names.items()):
        path = root / name
        if number == -1:
            path.mkdir()
        elif number in made:
            os.link(made[number], path)
        elif path.name == _REMEMBERED and contents[number] in recorder.memories:
            memories.append((path, contents[number]))
        else:
            made[number] = path
            path.write_bytes(contents[number])
    for path, content in memories:
        said = json.loads(content)
        for shard, number in recorder.memories[content].items():
            there = path.parent / "shards" / shard
            same = names.get(str(there.relative_to(root))) == number
            if same and len(contents[number]) == said[shard][1]:
                said[shard] = State.of(there.lstat())
        path.write_text(json.dumps(said))


@dataclass(frozen=True, slots=True)
class Scene:
    """Some work on a prepared store; tells the recorder what is reported as kept."""

    name: str
    prepare: Callable[[World, Path], set[int]]
    work: Callable[[World, Path, Recorder], None]
    hard_links: bool = True


def _nothing(world: World, root: Path) -> set[int]:
    return set()


def _two(world: World, root: Path) -> set[int]:
    store = FeatureStore.open(root, world.recipe)
    world.append(store, range(4))
    world.append(store, range(4, 8))
    store.check()
    return set(range(8))


def _damaged(world: World, root: Path, region: str = "features") -> set[int]:
    """Leave three shards, of which the second is damaged: two good ones could be merged."""
    _two(world, root)
    store = FeatureStore.at(root / world.recipe.name)
    world.append(store, range(8, 12))
    store.check()
    path = world.append(store, range(4, 8))
    damage(path, region, seeded("damaged"))
    return set(range(4)) | set(range(8, 12))


def _append(world: World, root: Path, recorder: Recorder, rows: range = range(12, 16)) -> None:
    store = FeatureStore.open(root, world.recipe)
    world.append(store, rows)
    recorder.kept(rows)


def _create(world: World, root: Path, recorder: Recorder) -> None:
    _append(world, root, recorder, range(4))
    _append(world, root, recorder, range(4, 8))


def _again(world: World, root: Path, recorder: Recorder) -> None:
    _append(world, root, recorder, range(4, 8))


def _flush(world: World, root: Path, recorder: Recorder) -> None:
    kept: list[int] = []

    def told(rows: int, nbytes: int) -> None:
        kept.extend(range(12 + len(kept), 12 + len(kept) + rows))
        recorder.kept(set(kept))

    store = FeatureStore.open(root, world.recipe)
    with RowBuffer(store, max_bytes=2 * world.dims * 4, on_commit=told) as buffer:
        for n in range(12, 15):
            buffer.add(world.keys[n : n + 1], world.features[n : n + 1])


def _repair(world: World, root: Path, recorder: Recorder) -> None:
    FeatureStore.at(root / world.recipe.name).check()
    _append(world, root, recorder, range(4, 8))


def _elsewhere(world: World, root: Path) -> set[int]:
    world.append(FeatureStore.open(root.parent / "elsewhere", world.recipe), range(12, 16))
    return _two(world, root)


def _copied_in(world: World, root: Path) -> None:
    """Put a shard into the store as ``cp`` does: nobody syncs it."""
    (path,) = (root.parent / "elsewhere").rglob("*.h5")
    data = path.read_bytes()
    copy = root / world.recipe.name / "shards" / path.name
    fd = os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    for start in range(0, len(data), 4096):
        os.pwrite(fd, data[start : start + 4096], start)
    os.close(fd)


def _copy_and_check(world: World, root: Path, recorder: Recorder) -> None:
    _copied_in(world, root)
    assert FeatureStore.at(root / world.recipe.name).check() == []


def _copy_and_append(world: World, root: Path, recorder: Recorder) -> None:
    _copied_in(world, root)
    _append(world, root, recorder)


def _two_of_some_use(world: World, root: Path) -> set[int]:
    return _two(world, root) - {0, 7}


def _compact(world: World, root: Path, recorder: Recorder) -> None:
    compact(root / world.recipe.name)


def _collect(world: World, root: Path, recorder: Recorder) -> None:
    drop_rows(root / world.recipe.name, keys_wanted(world.keys[1:7]))


def _of_no_use(world: World, root: Path) -> set[int]:
    _two(world, root)
    assert _garbage(world, root).whole
    return set()


def _garbage(world: World, root: Path) -> Garbage:
    return find_garbage(root / world.recipe.name, _wanted_later(world))


def _wanted_later(world: World) -> Wanted:
    """Rows that others may write meanwhile are wanted; none of those that are there is."""
    return keys_wanted(world.keys[ROWS // 2 :])


def _collect_all(world: World, root: Path, recorder: Recorder) -> None:
    remove_garbage(_garbage(world, root), _wanted_later(world))


def _write_after_gc(world: World, root: Path, recorder: Recorder) -> None:
    """Append to a store that was opened before others removed it."""
    store = FeatureStore.open(root, world.recipe)
    world.append(store, range(4, 8))  # it has anchored the folders that are removed
    _collect_all(world, root, recorder)
    for rows in (range(12, 16), range(8, 12)):
        world.append(store, rows)
        recorder.kept(rows)


SCENES = [
    Scene("create a store and append", _nothing, _create),
    Scene("append", _two, _append),
    Scene("append what is kept", _two, _again),
    Scene("append over a damaged shard", _damaged, _again),
    Scene("flush a buffer", _two, _flush),
    Scene("check, quarantine and append", _damaged, _repair),
    Scene("check what was copied in", _elsewhere, _copy_and_check),
    Scene("append what was copied in", _elsewhere, _copy_and_append),
    Scene("compact", _two, _compact),
    Scene("compact with a damaged shard", _damaged, _compact),
    Scene("compact with a damaged key", partial(_damaged, region="key"), _compact),
    Scene("compact with a damaged crc", partial(_damaged, region="crc"), _compact),
    Scene("gc", _two_of_some_use, _collect),
    Scene("gc of a whole store", _of_no_use, _collect_all),
    Scene("append after gc of a whole store", _of_no_use, _write_after_gc),
    Scene("append to a store of no use", _of_no_use, _append),
    Scene("compact without hard links", _two, _compact, False),
    Scene("create without hard links", _nothing, _create, False),
    Scene("append without hard links", _two, _append, False),
    Scene("append over damage without hard links", _damaged, _again, False),
    Scene("repair without hard links", _damaged, _repair, False),
]
BY_NAME = {scene.name: scene for scene in SCENES}


@dataclass(slots=True)
class Record:
    """What some work did, and the order in which the states that it may leave are judged.

    Attributes
    ----------
    kept
        Rows that were kept before.
    plan
        (call that the crash comes after, number of the state) of each state that differs from those
        before it, in the order in which they are judged.
    reported
        Call of the first report of kept rows; as many as there are calls where there is none.
    judged, after
        How many of the plan were judged, and how many of these lie behind the first report.
    """

    what: str
    recorder: Recorder
    kept: set[int]
    seed: int
    plan: list[tuple[int, int]] = field(default_factory=list)
    reported: int = 0
    judged: int = 0
    after: int = 0

    def __post_init__(self) -> None:
        ops = [Op("kept"), *self.recorder.ops]
        reports = (n for n, op in enumerate(ops) if n and op.kind == "kept")
        self.reported = next(reports, len(ops))
        seen: set[object] = set()
        found: list[tuple[int, int]] = []
        for number, index, names, contents, kept in self.states():
            # A hash of bytes is made once for each object.
            state = frozenset((name, hash(contents.get(n, b""))) for name, n in names.items())
            signature = hash((state, kept, number >= self.reported))
            if signature not in seen:
                seen.add(signature)
                found.append((number, index))
        seeded(self.seed, self.what).shuffle(found)
        before = [state for state in found if state[0] < self.reported]
        behind = [state for state in found if state[0] >= self.reported]
        pairs = itertools.zip_longest(behind, before)
        self.plan = [state for pair in pairs for state in pair if state is not None]

    def states(
        self, chosen: dict[int, set[int]] | None = None
    ) -> Iterator[tuple[int, int, dict[str, int], dict[int, bytes], frozenset[int]]]:
        """Iterate over states, all or the chosen ones by call: (call, which, names, files, kept).

        The states after one call are the same ones each time, whatever others are asked for.
        """
        disk = Disk(self.recorder)
        disk.kept |= self.kept
        for number, op in enumerate([Op("kept"), *self.recorder.ops]):
            disk.apply(op)
            wanted = None if chosen is None else chosen.get(number, set())
            if wanted is not None and not wanted:
                continue
            kept = frozenset(disk.kept)
            rng = seeded(self.seed, self.what, number)
            for index, (names, contents) in enumerate(disk.states(rng)):
                if wanted is None or index in wanted:
                    yield number, index, names, contents, kept

    def judge(self, count: int, world: World, place: Path, tally: Tally) -> None:
        """Judge the next states of the plan."""
        part = self.plan[self.judged : self.judged + count]
        self.judged += len(part)
        self.after += sum(number >= self.reported for number, _ in part)
        self.judge_states(part, world, place, tally)

    def judge_states(
        self, some: Iterable[tuple[int, int]], world: World, place: Path, tally: Tally
    ) -> None:
        """Judge states of the plan."""
        chosen: dict[int, set[int]] = {}
        for number, index in some:
            chosen.setdefault(number, set()).add(index)
        ops = [Op("kept"), *self.recorder.ops]
        for number, index, names, contents, kept in self.states(chosen):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            build(place, names, contents, self.recorder)
            call = f"crash after call {number} ({ops[number].kind} {ops[number].path})"
            what = f"seed {self.seed}, {self.what}, {call}, state {index}"
            world.judge(place / world.recipe.name, kept, tally, what)


def record(scene: Scene, world: World, root: Path, seed: int, tally: Tally) -> Record:
    """Prepare, then do the work while recording it."""
    root.mkdir(parents=True)
    kept = scene.prepare(world, root)
    recorder = Recorder(root, hard_links=scene.hard_links)
    with recorder():
        try:
            scene.work(world, root, recorder)
        except CacheError as error:
            tally.tell(f"{scene.name}, undisturbed: {error}", unclear=1)
    return Record(scene.name, recorder, kept, seed)


def together(one: Scene, other: Scene, world: World, root: Path, n: int, seed: int) -> Record:
    """Do one work, and all of another before the ``n``-th call of the first."""
    root.mkdir(parents=True)
    kept = one.prepare(world, root)
    recorder = Recorder(root, hard_links=one.hard_links)
    waiting = []

    def begin(calls: int) -> None:
        if calls != n:
            return
        recorder.before = None
        try:
            other.work(world, root, recorder)
        except Blocked:
            waiting.append(other)
        except CacheError:  # a clear word, and nothing reported
            pass

    recorder.before = begin
    with recorder():
        with suppress(CacheError):
            one.work(world, root, recorder)
        for scene in waiting:
            scene.work(world, root, recorder)
    return Record(f"{one.name} with {other.name} before call {n}", recorder, kept, seed)


def run(tally: Tally, budget: Budget, seed: int) -> None:
    """Judge states of all scenes, in turns, then of pairs of them at once."""
    world = World(ROWS, 300)
    with scratch() as root, without_threads():
        _scenes(tally, budget.part(0.7), seed, world, root)
        _pairs(tally, budget, seed, world, root)


def _scenes(tally: Tally, budget: Budget, seed: int, world: World, root: Path) -> None:
    records = []
    for scene in SCENES:
        records.append(record(scene, world, root / "real" / "root", seed, tally))
        shutil.rmtree(root / "real")
        tally.tried += 1
    while True:
        left = [r for r in records if budget.allows(r.judged) and r.judged < len(r.plan)]
        if not left:
            break
        for each in left:
            count = CHUNK if budget.cases is None else min(CHUNK, budget.cases - each.judged)
            each.judge(count, world, root / "state", tally)
    tally.share = sum(each.judged for each in records) / sum(len(each.plan) for each in records)
    for each in records:
        told = f"{each.what}: {each.judged} of {len(each.plan)} states"
        reports = each.reported <= len(each.recorder.ops)
        tally.notes.append(f"{told}, {each.after} after a report" if reports else told)
        if reports and not each.after:
            tally.tell(f"{each.what}: no state after the report was judged", broken=1)


def _pairs(tally: Tally, budget: Budget, seed: int, world: World, root: Path) -> None:
    rng, pairs = seeded(seed, "pairs"), 0
    while budget.allows(CHUNK * pairs):
        one, other = (BY_NAME[name] for name in rng.choice(PAIRS))
        n = rng.randrange(1, 50)
        with suppress(Blocked):
            found = together(one, other, world, root / "real" / "root", n, seed)
            found.judge(CHUNK, world, root / "state", tally)
        pairs += 1
        shutil.rmtree(root / "real")
    tally.tried += pairs
    tally.notes.append(f"{pairs} pairs at once, {CHUNK} states of each")


PAIRS = [
    ("append what is kept", "compact"),
    ("compact", "append what is kept"),
    ("compact", "check, quarantine and append"),
    ("append over a damaged shard", "compact with a damaged shard"),
    ("compact with a damaged shard", "append over a damaged shard"),
    ("append over damage without hard links", "append over damage without hard links"),
    ("append over damage without hard links", "repair without hard links"),
    ("repair without hard links", "append over damage without hard links"),
    ("append over a damaged shard", "check, quarantine and append"),
    ("check, quarantine and append", "append over a damaged shard"),
    ("append", "append"),
    ("append to a store of no use", "gc of a whole store"),
    ("gc of a whole store", "append to a store of no use"),
    ("create a store and append", "create a store and append"),
    ("append over a damaged shard", "append over a damaged shard"),
    ("check, quarantine and append", "check, quarantine and append"),
]
