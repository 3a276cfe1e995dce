"""What was reported as kept is there afterwards; what failed leaves nothing behind."""

import errno
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from cache import CacheError, FeatureStore

ROOMY = 1 << 20


def test_what_a_killed_process_reported_as_kept_is_there(tmp_path, python, recipe, rows_of):
    rows = rows_of(4000, 50)
    random = np.random.default_rng(0)
    for attempt in range(5):
        root = tmp_path / str(attempt)
        writer = python(
            "rows, store = make_rows(4000, 50), store_in(args[0])\n"
            "for i in range(0, 4000, 10):\n"
            "    store.append(rows.keys[i : i + 10], rows.features[i : i + 10])\n"
            "    os.write(1, b'%d\\n' % (i + 10))\n",
            root,
        )
        first = writer.stdout.readline()
        time.sleep(random.uniform(0, 0.3))
        writer.send_signal(signal.SIGKILL)
        reported = [int(line) for line in [first, *writer.stdout.read().splitlines()]]
        writer.communicate()
        store = FeatureStore.open(root, recipe)
        kept = reported[-1]
        assert np.array_equal(store.read(rows.keys[:kept]), rows.features[:kept])
        assert store.check() == []
        missing = store.missing(rows.keys)
        assert kept <= missing[0] <= kept + 10
        store.append(rows.keys[missing], rows.features[missing])
        assert np.array_equal(store.read(rows.keys), rows.features)


def test_a_full_disk_is_told_and_leaves_no_half_file(tmp_path, python, recipe, rows_of):
    rows = rows_of(300, 1000)
    writer = python(
        """
import resource
from cache import CacheError
rows, store = make_rows(300, 1000), store_in(args[0])
store.append(rows.keys[:10], rows.features[:10])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
for limit in (200_000, 150_000, 40_000, 4096, 100, 1):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, 200_000))
    try:
        store.append(rows.keys[10:], rows.features[10:])
    except CacheError as error:
        print(error)
print(len(os.listdir(store.folder / "tmp")), store.rows)
""",
        tmp_path,
    )
    said, errors = writer.communicate(timeout=60)
    assert writer.returncode == 0, errors
    assert errors == ""
    *messages, last = said.splitlines()
    assert last == "0 10"
    assert len(messages) == 6
    assert all("File too large" in message for message in messages)
    store = FeatureStore.open(tmp_path, recipe)
    assert store.check() == []
    assert np.array_equal(store.read(rows.keys[:10]), rows.features[:10])


def test_two_processes_append_overlapping_rows_at_once(tmp_path, python, recipe, rows_of):
    rows = rows_of(400, 50)
    text = (
        "rows = make_rows(400, 50); store = store_in(args[0]); low, high = map(int, args[1:])\n"
        "for i in range(low, high, 20):\n"
        "    store.append(rows.keys[i : i + 20], rows.features[i : i + 20])\n"
    )
    writers = [python(text, tmp_path, *part) for part in ((0, 300), (100, 400), (110, 390))]
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert writer.returncode == 0, errors
    store = FeatureStore.open(tmp_path, recipe)
    assert store.rows == 400
    assert np.array_equal(store.read(rows.keys), rows.features)
    assert store.check() == []
    assert list((store.folder / "quarantine").iterdir()) == []
    assert list((store.folder / "tmp").iterdir()) == []


@pytest.mark.parametrize("call", ["fsync", "pwrite", "preadv", "link", "close", "ftruncate"])
def test_an_error_of_any_call_is_raised_and_keeps_nothing(store, rows_of, monkeypatch, call):
    rows = rows_of(20)
    store.append(rows.keys[:10], rows.features[:10])
    real, calls = getattr(os, call), []

    def fail(fd, *args, **options):
        calls.append(call)
        if call == "close":
            real(fd)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(CacheError, match="Input/output error"):
            store.append(rows.keys[10:], rows.features[10:])
    assert call != "fsync" or len(calls) == 1, "a failed fsync is not tried again"
    assert list((store.folder / "tmp").iterdir()) == []
    assert store.missing(rows.keys).tolist() == list(range(10, 20))
    store.append(rows.keys[10:], rows.features[10:])
    assert np.array_equal(FeatureStore.at(store.folder).read(rows.keys), rows.features)


def test_short_reads_and_writes_are_resumed(store, rows_of, monkeypatch):
    rows = rows_of(30, 500)
    write, read = os.pwrite, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: write(fd, data[:1000], at))
    monkeypatch.setattr(os, "preadv", lambda fd, into, at: read(fd, [into[0][:1000]], at))
    store.append(rows.keys, rows.features)
    assert np.array_equal(FeatureStore.at(store.folder).read(rows.keys), rows.features)
    assert store.check() == []


def test_a_write_that_does_not_read_back_is_not_kept(store, rows_of, monkeypatch):
    rows = rows_of(30, 500)
    write = os.pwrite

    def flip(fd, data, at):
        data = bytearray(data)
        if len(data) > 10_000:
            data[5000] ^= 1
        return write(fd, data, at)

    monkeypatch.setattr(os, "pwrite", flip)
    with pytest.raises(CacheError, match="does not read back"):
        store.append(rows.keys, rows.features)
    assert store.rows == 0


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_without_hard_links_a_rename_does(store, rows_of, monkeypatch, number):
    rows = rows_of(10)

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    path = store.append(rows.keys, rows.features)
    assert store.append(rows.keys, rows.features) == path
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert store.append(rows.keys, rows.features) == path
    again = FeatureStore.at(store.folder)
    assert again.check() == []
    assert np.array_equal(again.read(rows.keys), rows.features)
    assert len(list((store.folder / "quarantine").iterdir())) == 1
    assert list((store.folder / "tmp").iterdir()) == []


def test_calls_interrupted_by_signals_go_on(store, rows_of):
    rows = rows_of(200, 1000)
    previous = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for i in range(0, 200, 20):
            store.append(rows.keys[i : i + 20], rows.features[i : i + 20])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert np.array_equal(FeatureStore.at(store.folder).read(rows.keys), rows.features)


def test_ctrl_c_at_any_moment_of_a_commit_leaves_a_sound_store(store, rows_of):
    rows = rows_of(400, 1000)
    interrupted, inside = 0, []

    def interrupt(*_):
        if inside:
            raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        for i in range(40):
            part = slice(i * 10, i * 10 + 10)
            try:
                inside.append(i)
                signal.setitimer(signal.ITIMER_REAL, 0.0003 * (i + 1))
                store.append(rows.keys[part], rows.features[part])
                inside.clear()
            except KeyboardInterrupt:
                inside.clear()
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert interrupted
    assert list((store.folder / "tmp").iterdir()) == []
    again = FeatureStore.at(store.folder)
    assert again.check() == []
    missing = again.missing(rows.keys)
    assert len(missing) <= 10 * interrupted
    kept = np.setdiff1d(np.arange(400), missing)
    assert np.array_equal(again.read(rows.keys[kept]), rows.features[kept])


def test_a_leftover_of_a_killed_process_is_not_in_the_way(store, rows_of):
    (store.folder / "tmp" / "host-1-x").write_bytes(b"half")
    (Path(store.folder) / "shards" / "notes.txt").write_text("not a shard")
    rows = rows_of(3)
    store.append(rows.keys, rows.features)
    again = FeatureStore.at(store.folder)
    assert again.check() == []
    assert again.rows == 3
