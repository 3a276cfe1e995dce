"""Rows are committed by size, by age and on the way out, beside the work that makes them."""

import threading

import pytest

from cache import CacheError, FeatureStore, RowBuffer


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_commit_is_due_by_size(store, rows_of):
    rows, told = rows_of(100, 8), []
    buffer = RowBuffer(store, max_bytes=32 * 32, on_commit=lambda *what: told.append(what))
    for i in range(0, 100, 10):
        buffer.add(rows.keys[i : i + 10], rows.features[i : i + 10])
    buffer.flush()
    buffer.flush()
    assert told == [(40, 40 * 32), (40, 40 * 32), (20, 20 * 32)]
    assert (buffer.rows, buffer.nbytes) == (0, 0)
    assert store.shards == 3
    assert (store.read(rows.keys) == rows.features).all()


def test_a_commit_is_due_by_age(store, rows_of):
    rows, clock = rows_of(4), Clock()
    buffer = RowBuffer(store, max_seconds=30.0, clock=clock)
    for i in range(4):
        assert (store.rows, buffer.rows) == (0, i)
        buffer.add(rows.keys[i : i + 1], rows.features[i : i + 1])
        clock.now += 10.0
    clock.now += 1000.0
    buffer.add(rows.keys[:0], rows.features[:0])
    buffer.flush()
    assert (store.shards, store.rows) == (1, 4)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_what_was_added_is_kept_when_an_exception_ends_the_run(store, rows_of, error):
    rows = rows_of(4)

    def run() -> None:
        with RowBuffer(store) as buffer:
            buffer.add(rows.keys, rows.features)
            raise error

    with pytest.raises(error):
        run()
    assert FeatureStore.at(store.folder).rows == 4


def test_views_go_with_their_rows(store, rows_of):
    rows = rows_of(4)
    with RowBuffer(store) as buffer:
        buffer.add(rows.keys, rows.features)
        buffer.add(rows.keys, rows.features + 1, [1, 2, 1, 2])
    assert (store.read(rows.keys, [1, 2, 1, 2]) == rows.features + 1).all()
    assert (store.read(rows.keys) == rows.features).all()


def test_the_caller_may_use_its_arrays_again(store, rows_of):
    rows = rows_of(4)
    features = rows.features.copy()
    with RowBuffer(store) as buffer:
        buffer.add(rows.keys, features)
        features[:] = 0
    assert (store.read(rows.keys) == rows.features).all()


class Gate:
    """A store whose commits wait until they are let through, or fail."""

    def __init__(self, store: FeatureStore) -> None:
        self.store = store
        self.open = threading.Event()
        self.begun = threading.Semaphore(0)
        self.error: BaseException | None = None

    def append(self, *rows: object) -> object:
        self.begun.release()
        assert self.open.wait(60)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return self.store.append(*rows)


@pytest.fixture
def gate(store):
    gate = Gate(store)
    yield gate
    gate.open.set()


def test_rows_are_added_while_a_commit_is_under_way(gate, rows_of):
    rows, told = rows_of(6), []
    with RowBuffer(gate, max_seconds=0, on_commit=lambda *what: told.append(what[0])) as buffer:
        buffer.add(rows.keys[:2], rows.features[:2])
        gate.begun.acquire()
        buffer.add(rows.keys[2:4], rows.features[2:4])  # old enough, and waits for nobody
        buffer.add(rows.keys[4:], rows.features[4:])
        assert (buffer.rows, told) == (6, []), "what is not durable is not told as kept"
        gate.open.set()
    assert told == [2, 4]
    assert (gate.store.read(rows.keys) == rows.features).all()


def test_no_more_than_two_lots_are_in_memory(gate, rows_of):
    rows = rows_of(8)
    buffer = RowBuffer(gate, max_bytes=4 * 32)
    buffer.add(rows.keys[:4], rows.features[:4])
    gate.begun.acquire()
    third = threading.Thread(target=buffer.add, args=(rows.keys[4:], rows.features[4:]))
    third.start()
    assert not gate.begun.acquire(timeout=0.05)
    gate.open.set()
    third.join()
    buffer.flush()
    assert gate.store.shards == 2


def test_a_failed_commit_is_told_at_the_next_call_and_tried_again_on_the_way_out(gate, rows_of):
    rows = rows_of(4)
    gate.error = CacheError("no space left")
    gate.open.set()

    def run() -> None:
        with RowBuffer(gate, max_seconds=0) as buffer:
            for i in range(2):
                buffer.add(rows.keys[2 * i : 2 * i + 2], rows.features[2 * i : 2 * i + 2])
                gate.begun.acquire()
                buffer._sent[1].exception()  # the commit is through when the next rows come

    with pytest.raises(CacheError, match="no space left"):
        run()
    assert (gate.store.read(rows.keys) == rows.features).all()


def test_an_interrupt_while_waiting_for_a_commit_loses_no_row(gate, rows_of, monkeypatch):
    rows = rows_of(6)

    def run() -> None:
        with RowBuffer(gate, max_bytes=2 * 32) as buffer:
            buffer.add(rows.keys[:2], rows.features[:2])
            gate.begun.acquire()
            commit = buffer._sent[1]
            waits = commit.exception

            def interrupted() -> None:
                monkeypatch.setattr(commit, "exception", waits)
                gate.open.set()
                raise KeyboardInterrupt

            monkeypatch.setattr(commit, "exception", interrupted)
            buffer.add(rows.keys[2:], rows.features[2:])

    with pytest.raises(KeyboardInterrupt):
        run()
    assert (gate.store.read(rows.keys) == rows.features).all()


def test_a_failed_commit_keeps_the_rows_for_another_try(store, rows_of):
    rows = rows_of(4)
    buffer = RowBuffer(store)
    buffer.add(rows.keys, rows.features)
    tmp = store.folder / "tmp"
    tmp.rmdir()
    tmp.write_text("in the way")
    with pytest.raises(CacheError):
        buffer.flush()
    assert buffer.rows == 4
    tmp.unlink()
    buffer.flush()
    assert store.rows == 4


def test_rows_of_another_length_are_refused_and_the_others_stay(store, rows_of):
    rows, other = rows_of(4, 8), rows_of(4, 9, seed=1)
    buffer = RowBuffer(store)
    buffer.add(rows.keys, rows.features)
    with pytest.raises(ValueError, match="rows of shape"):
        buffer.add(other.keys, other.features)
    assert buffer.rows == 4
    buffer.flush()
    assert (store.read(rows.keys) == rows.features).all()


def test_a_number_too_large_for_the_store_is_not_lost_among_others(tmp_path, recipe_of, rows_of):
    rows = rows_of(4, dtype="float16")
    buffer = RowBuffer(FeatureStore.open(tmp_path, recipe_of("float16")))
    buffer.add(rows.keys[:2], rows.features[:2])
    buffer.add(rows.keys[2:], rows.features[2:].astype("float64") + 1e6)
    with pytest.raises(ValueError, match="too large"):
        buffer.flush()
    assert buffer.rows == 4


def test_a_committed_shard_is_not_changed_by_what_comes_after_it(store, rows_of):
    rows = rows_of(64)
    buffer = RowBuffer(store, max_bytes=16 * 32)
    for i in range(0, 64, 4):
        buffer.add(rows.keys[i : i + 4], rows.features[i : i + 4])
    buffer.flush()
    assert (buffer.rows, store.shards) == (0, 4)
    assert (store.read(rows.keys) == rows.features).all()
