"""Rows are committed by size, by age and on the way out."""

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
    assert told == [(40, 40 * 32), (40, 40 * 32)]
    assert (buffer.rows, buffer.nbytes) == (20, 20 * 32)
    buffer.flush()
    buffer.flush()
    assert store.shards == 3
    assert (store.read(rows.keys) == rows.features).all()


def test_a_commit_is_due_by_age(store, rows_of):
    rows, clock = rows_of(4), Clock()
    buffer = RowBuffer(store, max_seconds=30.0, clock=clock)
    for i, rows_kept in enumerate([0, 0, 0, 4]):
        buffer.add(rows.keys[i : i + 1], rows.features[i : i + 1])
        assert store.rows == rows_kept
        clock.now += 10.0
    clock.now += 1000.0
    buffer.add(rows.keys[:0], rows.features[:0])
    assert store.shards == 1


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
    assert (buffer.rows, store.shards) == (0, 4)
    assert (store.read(rows.keys) == rows.features).all()
