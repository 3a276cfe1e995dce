"""Look-ups agree with a dictionary."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.index import Index

# Few distinct keys, so that repeats are common.
rows = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), max_size=30)


def arrays(pairs):
    keys = np.zeros((len(pairs), 32), np.uint8)
    keys[:, 31] = [key for key, _ in pairs]
    return keys, np.array([view for _, view in pairs], np.uint32)


@given(rows, rows)
def test_the_first_row_of_an_identity_is_found_and_hides_the_others(have, ask):
    index = Index(*arrays(have))
    first = {pair: number for number, pair in reversed(list(enumerate(have)))}
    assert index.find(*arrays(ask)).tolist() == [first.get(pair, -1) for pair in ask]
    assert index.hidden.tolist() == [n for n, pair in enumerate(have) if first[pair] != n]


def test_large_indices_with_repeats_agree_too():
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 256, (20_000, 32), np.uint8)
    views = rng.integers(0, 3, 20_000).astype(np.uint32)
    twice = np.concatenate([np.arange(20_000), rng.integers(0, 20_000, 5000)])
    index = Index(keys[twice], views[twice])
    assert np.array_equal(index.find(keys, views), np.arange(20_000))
    assert np.array_equal(index.hidden, np.arange(20_000, 25_000))
    assert (index.find(keys, views + np.uint32(3)) == -1).all()


@pytest.mark.parametrize("mixed", [0, 1 << 20, (1 << 64) - 1])
def test_rows_whose_mixed_numbers_are_all_alike_are_told_apart(monkeypatch, mixed):
    monkeypatch.setattr("cache.index._mix", lambda keys, _: np.full(len(keys), mixed, np.uint64))
    keys = np.random.default_rng(0).integers(0, 256, (100, 32), np.uint8)
    views = np.zeros(100, np.uint32)
    index = Index(np.concatenate([keys[:60], keys[:20]]), views[:80])
    expected = [*range(60), *[-1] * 40]
    assert index.find(keys, views).tolist() == expected
    assert index.hidden.tolist() == list(range(60, 80))
