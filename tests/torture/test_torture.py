"""A few seconds of each kind of fault, and each hole that faults found, by name."""

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from cache import (
    CacheError,
    FeatureStore,
    MissingRows,
    RecipeError,
    atomic,
    index,
    integrity,
    rewrite,
)
from cache.atomic import commit
from cache.header import BLOCK, parse
from cache.shard import Block, State
from tests.torture import crash
from tests.torture.__main__ import table, torture
from tests.torture.faults import WORKS, Bench
from tests.torture.hostile import Host, deep_field
from tests.torture.inline import Inline, without_threads
from tests.torture.world import Budget, Tally, World, scratch, seeded
from tests.torture.wounds import REGIONS, flipped, regions

WORLD = World(12, 300)
CASES = {
    "kill": 6,
    "crash": 8,
    "faults": 250,
    "damage": 100,
    "hostile": 99,
    "at_once": 1,
    "model": 2,
}


@pytest.mark.parametrize("kind", CASES)
def test_no_fault_loses_or_falsifies_a_row(kind):
    # In a process of its own: it forks, which one with threads must not.
    # The same cases each time; `make torture` is where others are looked for.
    command = [sys.executable, "-m", "tests.torture", "--only", kind, "--json", "--seed", "1"]
    found = subprocess.run(
        [*command, "--cases", str(CASES[kind])],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert found.returncode == 0, found.stderr + found.stdout
    (tally,) = json.loads(found.stdout)
    assert tally["tried"] > 0


@pytest.fixture
def store(tmp_path):
    store = FeatureStore.open(tmp_path / "root", WORLD.recipe)
    WORLD.append(store, range(4))
    WORLD.append(store, range(4, 8))
    return store


def fail(monkeypatch, call, numbers, concerns=lambda *_: True):
    """Let a call of ``os`` fail, each time it concerns something and there is an error left."""
    real, left = getattr(os, call), list(numbers)

    def failing(*args, **options):
        if left and concerns(*args):
            number = left.pop(0)
            raise OSError(number, os.strerror(number), *args[:1])
        return real(*args, **options)

    monkeypatch.setattr(os, call, failing)


def states_at_the_end(scene):
    tally = Tally("crash")
    with scratch() as root:
        world = World(crash.ROWS, 300)
        found = crash.record(scene, world, root / "real" / "root", 1, tally)
        last = len(found.recorder.ops)
        found.judge_states([(last, n) for n in range(1000)], world, root / "state", tally)
    assert tally.states
    return tally


@pytest.mark.parametrize(
    "scene, module, call",
    [
        ("append", atomic, "fsync_folder"),
        ("check what was copied in", integrity, "fsync_found"),
        ("append what was copied in", atomic, "fsync_found"),
    ],
)
def test_the_states_tell_where_a_sync_is_missing(monkeypatch, scene, module, call):
    monkeypatch.setattr(module, call, lambda _: None)
    tally = states_at_the_end(crash.BY_NAME[scene])
    assert tally.lost + tally.misread > 0


def test_the_states_tell_where_a_file_is_not_synced(monkeypatch):
    apply = crash.Disk.apply
    monkeypatch.setattr(
        crash.Disk, "apply", lambda disk, op: None if op.kind == "sync" else apply(disk, op)
    )
    assert states_at_the_end(crash.BY_NAME["append"]).lost > 0


def test_the_states_tell_where_damage_is_copied(monkeypatch):
    """Two good shards are merged, and with them a damaged one, under fresh digests."""
    monkeypatch.setattr(rewrite, "problem_of", lambda _: None)
    monkeypatch.setattr(rewrite, "_piece", unchecked)
    assert states_at_the_end(crash.BY_NAME["compact with a damaged shard"]).misread > 0


def unchecked(shard, part, features, crcs, mask):
    return Block(shard.keys[part][mask], shard.views[part][mask], features[mask])


@pytest.fixture
def faults_of_fsync():
    """Inject each error of each fsync into some work, and return what came of it."""
    with scratch() as root, without_threads():
        bench = Bench(root)

        def inject(name):
            tally = Tally("faults")
            (work,) = (work for work in WORKS if work.name == name)
            for fault in bench.faults(work, tally):
                if fault[0] == "fsync":
                    bench.inject(work, fault, tally)
            assert tally.tried > 10
            return tally

        yield inject


@pytest.mark.parametrize(
    "work",
    ["append", "append over damage", "append what was copied in", "check what was copied in"],
)
def test_an_fsync_that_failed_is_not_taken_for_done_when_tried_again(faults_of_fsync, work):
    tally = faults_of_fsync(work)
    assert not tally.failures, tally.told


def test_an_error_of_fsync_that_nobody_looks_at_is_noticed(faults_of_fsync, monkeypatch):
    def swallow(pool, call, *args):
        future = real(pool, call, *args)
        return future if future.exception() is None else real(pool, lambda: None)

    real = Inline.submit
    monkeypatch.setattr(Inline, "submit", swallow)
    assert faults_of_fsync("append").lost > 0


def test_an_error_of_the_torture_itself_is_in_the_table(monkeypatch):
    def fails(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(crash, "run", fails)
    tally = torture("crash", Budget(cases=1), 1)
    assert tally.broken == 1
    assert "ZeroDivisionError" in tally.told[0]
    assert table([tally]).splitlines()[1].split() == ["crash", *"000000", "1", "0%"]


@pytest.mark.parametrize("region", REGIONS)
def test_damage_lies_in_its_region(store, region):
    path = next((store.folder / "shards").iterdir())
    before = path.read_bytes()
    parts = regions(parse(before[:BLOCK]))[region]
    for n in range(20):
        after = flipped(before, region, seeded(n))
        (at,) = np.flatnonzero(np.frombuffer(before, "u1") != np.frombuffer(after, "u1"))
        assert any(low <= at < high for low, high in parts)


def test_a_passing_error_of_the_disk_moves_no_good_shard(store, monkeypatch):
    for call in ("preadv", "fstat", "open", "lstat"):
        with monkeypatch.context() as patched:
            fail(patched, call, [errno.EIO])
            with suppress(CacheError):
                FeatureStore.at(store.folder).check()
    assert FeatureStore.at(store.folder).rows == 8
    assert list((store.folder / "quarantine").iterdir()) == []


def test_what_can_never_be_read_is_missing_and_stays_where_it_is(store, monkeypatch):
    unreadable = sorted((store.folder / "shards").iterdir())[0]
    with monkeypatch.context() as patched:
        fail(patched, "open", [errno.EACCES] * 99, lambda path, *_: Path(path) == unreadable)
        other = FeatureStore.at(store.folder)
        (finding,) = other.check()
        assert "Permission denied" in finding.problem
        assert finding.moved_to is None
        lacking = other.missing(WORLD.keys[:8]).tolist()
        assert len(lacking) == 4
        # Computed again, it gets the same name: what cannot be read is not in its way.
        WORLD.append(other, lacking)
    assert FeatureStore.at(store.folder).check() == []
    assert FeatureStore.at(store.folder).rows == 8


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_lack_of_descriptors_or_memory_is_told_and_no_verdict(store, monkeypatch, number):
    shards = store.folder / "shards"
    with monkeypatch.context() as patched:
        fail(patched, "open", [number] * 99, lambda path, *_: Path(path).parent == shards)
        with pytest.raises(CacheError, match="Nothing is known to be wrong"):
            FeatureStore.at(store.folder)
    with monkeypatch.context() as patched:
        other = FeatureStore.at(store.folder)
        fail(patched, "preadv", [number] * 99)
        with pytest.raises(CacheError, match="Nothing is known to be wrong"):
            other.check()
    assert FeatureStore.at(store.folder).check() == []
    assert FeatureStore.at(store.folder).rows == 8


def test_a_filesystem_that_cannot_tell_holes_is_read(store, monkeypatch):
    fail(monkeypatch, "lseek", [errno.EINVAL] * 99)
    again = FeatureStore.at(store.folder)
    assert again.check() == []
    assert again.rows == 8


def test_closing_what_was_read_cannot_fail_a_check(store, monkeypatch):
    real = os.close

    def close(fd):
        real(fd)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "close", close)
    assert FeatureStore.at(store.folder).check() == []


def damaged_shard(store):
    path = WORLD.append(store, range(8, 12))
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    return path


def test_a_repair_that_is_killed_takes_no_shard_that_came_meanwhile(store, monkeypatch):
    """Between the judgement of a bad shard and its move, a writer puts a good one in its place."""
    bad = damaged_shard(store)
    writer = threading.Thread(
        target=lambda: WORLD.append(FeatureStore.at(store.folder), range(8, 12))
    )
    rename = os.rename

    def slow(source, target):
        if writer.ident is None:  # the writer's own calls come here as well
            writer.start()
            writer.join(0.3)
            assert writer.is_alive(), "the writer waits until the move is through"
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", slow)
        # Killed, as it were: nothing that a repair would do after the move is done.
        (finding,) = FeatureStore.at(store.folder).check()
    writer.join()
    assert finding.moved_to is not None
    assert bad.exists()
    assert np.array_equal(FeatureStore.at(store.folder).read(WORLD.keys[8:]), WORLD.features[8:])


def test_a_bad_shard_that_others_move_first_is_not_in_the_way_of_a_commit(store, monkeypatch):
    bad = damaged_shard(store)
    link, calls = os.link, []

    def late(source, target, **options):
        calls.append(target)
        if len(calls) == 2:  # the second name of what is in the way
            bad.unlink()
        link(source, target, **options)

    monkeypatch.setattr(os, "link", late)
    assert WORLD.append(store, range(8, 12)) == bad
    assert FeatureStore.at(store.folder).check() == []


def test_two_that_replace_the_same_bad_shard_move_no_good_one(store, monkeypatch):
    """Without hard links replacing is two moves: the second to come must look again."""
    bad = damaged_shard(store)
    monkeypatch.setattr(os, "link", _refused)
    alone, good = atomic.alone, []

    def others_first(quarantine):
        if not good:
            good.append(0)
            WORLD.append(FeatureStore.at(store.folder), range(8, 12))
            good[0] = bad.lstat().st_ino
        return alone(quarantine)

    monkeypatch.setattr(atomic, "alone", others_first)
    WORLD.append(store, range(8, 12))
    assert bad.lstat().st_ino == good[0]
    assert len(list((store.folder / "quarantine").iterdir())) == 1


def _refused(*_, **__):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_device_is_not_even_opened(store, monkeypatch):
    path = store.folder / "shards" / f"{store.digest[:8]}-1-{'0' * 32}.h5"
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(5, 2))
    except PermissionError:
        path.symlink_to("/dev/ptmx")
    real = os.open

    def watched(what, *args, **options):
        assert Path(what) != path
        return real(what, *args, **options)

    monkeypatch.setattr(os, "open", watched)
    (finding,) = FeatureStore.at(store.folder).check()
    assert finding.problem == "not a regular file"


@pytest.mark.parametrize("text", ['{"a":[Infinity,1,1,1]}', '{"a":[1e999,1,1,1]}'])
def test_a_memory_of_checks_with_an_infinity_is_none(store, text):
    (store.folder / "checked.json").write_text(text)
    assert FeatureStore.at(store.folder).check() == []


def test_a_lock_is_let_go_even_where_a_child_has_it(tmp_path):
    with atomic.alone(tmp_path):
        copies = [os.dup(int(fd)) for fd in os.listdir("/proc/self/fd") if _is_open(fd, tmp_path)]  # noqa: PTH208
        assert copies
    with atomic.alone(tmp_path):
        pass
    for fd in copies:
        os.close(fd)


def _is_open(fd, folder):
    with suppress(OSError):
        return os.path.samestat(os.fstat(int(fd)), folder.stat())
    return False


def test_a_commit_keeps_what_is_there_where_it_may_not_replace_it(tmp_path):
    for text in (b"one", b"two"):
        commit(tmp_path, tmp_path, None, lambda fd, text=text: os.write(fd, text), lambda _: "name")
    assert (tmp_path / "name").read_bytes() == b"one"


@pytest.mark.parametrize("depth", [2, 900])
def test_a_recipe_with_a_deep_field_is_refused(store, depth):
    (store.folder / "recipe.json").write_bytes(deep_field(depth))
    with pytest.raises(RecipeError):
        FeatureStore.at(store.folder)


@pytest.mark.parametrize("check", [FeatureStore.check, FeatureStore.verify])
def test_a_forged_header_of_another_width_displaces_no_good_row(tmp_path, check):
    host = Host(tmp_path)
    many = World(60, 2)
    path = many.append(FeatureStore.open(tmp_path / "wide", many.recipe), range(60))
    data = bytearray(path.read_bytes())
    data[parse(bytes(data[:BLOCK])).features_at] ^= 1  # and not even its rows are right
    (host.shards / path.name).write_bytes(data)
    store = FeatureStore.at(host.folder)
    (finding,) = check(store)
    assert finding.shard == path.name
    assert len(store.missing(host.world.keys)) == 0


@pytest.mark.parametrize("check", [FeatureStore.check, FeatureStore.verify])
def test_a_commit_that_ends_while_its_shard_is_checked_is_no_finding(store, check, monkeypatch):
    """What a commit does last, unlinking the temporary, changes the time of the shard's inode."""
    reader = FeatureStore.at(store.folder)
    shard = next((store.folder / "shards").iterdir())
    (store.folder / "checked.json").unlink(missing_ok=True)
    read, ended = integrity.read_crcs, []

    def slow(*args):
        if not ended:
            os.link(shard, store.folder / "tmp" / "second-name")
            ended.append(True)
        return read(*args)

    monkeypatch.setattr(integrity, "read_crcs", slow)
    assert check(reader) == []
    assert ended
    assert reader.rows == 8


def test_what_verify_found_is_no_longer_taken_for_checked(store):
    """Damage that leaves a file's size, times and inode as they were is verify's alone to find."""
    assert FeatureStore.at(store.folder).check() == []
    assert len(json.loads((store.folder / "checked.json").read_text())) == 2
    shard = sorted((store.folder / "shards").iterdir())[0]
    shard.write_bytes(shard.read_bytes()[:-1] + b"\xff")
    found = State.of(shard.lstat())
    memory = json.loads((store.folder / "checked.json").read_text()) | {shard.name: found}
    (store.folder / "checked.json").write_text(json.dumps(memory))
    assert FeatureStore.at(store.folder).check() == []
    assert [f.shard for f in FeatureStore.at(store.folder).verify()] == [shard.name]
    assert [f.shard for f in FeatureStore.at(store.folder).check()] == [shard.name]


def test_a_sparse_file_is_put_aside_unread(store, monkeypatch):
    path = store.folder / "shards" / "x.h5"
    path.touch()
    os.truncate(path, 1 << 40)  # reading it would take an hour
    real, read = os.preadv, []

    def counted(*args):
        read.append(real(*args))
        return read[-1]

    monkeypatch.setattr(os, "preadv", counted)
    (finding,) = FeatureStore.at(store.folder).check()
    assert finding.moved_to is not None
    assert sum(read) < 1 << 20


def test_keys_made_to_collide_are_found_like_others():
    """Words that differ in their top bits alone have few sums, whatever they are multiplied by."""
    words = np.zeros((1 << 14, 4), np.uint64)
    numbers = np.arange(len(words), dtype=np.uint64)
    for column in range(4):
        words[:, column] = (numbers >> np.uint64(4 * column) & np.uint64(15)) << np.uint64(60)
    keys = words.view(np.uint8).reshape(-1, 32)
    views = np.zeros(len(keys), np.uint32)
    distinct = np.unique(keys, axis=0)
    assert len(np.unique(index._mix(keys, views))) == len(distinct)
    assert len(np.unique(index._mix(distinct, views[: len(distinct)]))) == len(distinct)


def test_a_failed_sync_of_what_is_there_is_not_tried_again(store, monkeypatch):
    """After one that failed, the next may say that all is well though the pages are gone."""
    path = next((store.folder / "shards").iterdir())
    inode, real = path.stat().st_ino, os.fsync
    synced = []

    def failing(fd):
        if os.fstat(fd).st_ino == inode:
            synced.append(fd)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)

    block = next(FeatureStore.at(store.folder).blocks())
    keys, features = np.array(block.keys), np.array(block.features)
    monkeypatch.setattr(os, "fsync", failing)
    assert FeatureStore.at(store.folder).append(keys, features) == path
    assert len(synced) == 1
    assert path.stat().st_ino != inode
    assert np.array_equal(FeatureStore.at(store.folder).read(keys), features)


def test_what_changed_after_a_check_is_checked_before_it_is_read(store):
    reader = FeatureStore.at(store.folder)
    assert reader.check() == []
    for path in (store.folder / "shards").iterdir():
        data = bytearray(path.read_bytes())
        data[parse(bytes(data[:BLOCK])).features_at] ^= 255
        path.write_bytes(data)
    with pytest.raises(MissingRows):
        reader.read(WORLD.keys[:4])


def test_without_links_and_locks_a_shard_that_came_during_a_repair_gets_its_name_back(
    store, monkeypatch
):
    bad = damaged_shard(store)
    monkeypatch.setattr(os, "link", _refused)
    monkeypatch.setattr("fcntl.flock", _refused)
    put_aside = integrity.put_aside

    def late(path, folder):
        WORLD.append(FeatureStore.at(store.folder), range(8, 12))
        return put_aside(path, folder)

    monkeypatch.setattr(integrity, "put_aside", late)
    FeatureStore.at(store.folder).check()
    assert bad.exists()
    assert len(FeatureStore.at(store.folder).missing(WORLD.keys[8:])) == 0


def test_where_no_thread_can_be_started_a_commit_says_so(store, monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    with pytest.raises(CacheError, match="can't start new thread"):
        WORLD.append(store, range(8, 12))
    monkeypatch.undo()
    WORLD.append(store, range(8, 12))


def test_maps_make_room_where_descriptors_run_out(tmp_path):
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from cache import FeatureStore
from tests.torture.world import World
world = World(70, 4)
store = FeatureStore.open(Path(sys.argv[1]), world.recipe)
for n in range(70):
    world.append(store, [n])
resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))
for keys, features in ((world.keys, world.features), (world.keys[::-1], world.features[::-1])):
    assert np.array_equal(FeatureStore.at(store.folder).read(keys), features)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
