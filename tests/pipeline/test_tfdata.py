"""What `pipeline.as_dataset` promises."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache import FeatureRecipe, FeatureStore, MissingRows
from pipeline import as_dataset


def filled(root: Path, dtype: Any = "float32", rows: int = 50, dims: int = 7) -> Any:
    recipe = FeatureRecipe(
        backbone="resnet50", weights="0" * 64, pooling="avg", size=224, resize="stretch",
        decode="pillow-1", preprocessing="caffe", precision="float32", dtype=dtype,
    )  # fmt: skip
    store = FeatureStore.open(root, recipe)
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 256, (rows, 32), np.uint8)
    features = rng.normal(size=(rows, dims)).astype(dtype)
    for i in range(0, rows, rows // 2):
        store.append(keys[i : i + rows // 2], features[i : i + rows // 2])
    return store, keys, features


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_batches_come_in_the_order_asked_for(tmp_path: Path, dtype: str) -> None:
    store, keys, features = filled(tmp_path, dtype)
    order = np.random.default_rng(1).permutation(50)
    dataset = as_dataset(store, keys[order], order, batch_size=8)
    assert int(dataset.cardinality()) == 7
    for _ in range(2):
        got = list(dataset.as_numpy_iterator())
        assert [len(rows) for rows, _ in got] == [8] * 6 + [2]
        assert got[0][0].dtype == dtype
        assert np.array_equal(np.concatenate([rows for rows, _ in got]), features[order])
        assert np.array_equal(np.concatenate([labels for _, labels in got]), order)


def test_shuffling_is_of_all_rows_anew_in_each_pass(tmp_path: Path) -> None:
    store, keys, features = filled(tmp_path)
    labels = np.eye(50, dtype=np.float32)

    def passes() -> list[list[int]]:
        dataset = as_dataset(
            store, keys, labels, batch_size=8, shuffle=True, seed=3, drop_remainder=True
        )
        assert int(dataset.cardinality()) == 6
        orders = []
        for _ in range(2):
            order = []
            for rows, one_hot in dataset.as_numpy_iterator():
                order += one_hot.argmax(axis=1).tolist()
                assert np.array_equal(rows, features[one_hot.argmax(axis=1)])
            orders.append(order)
        return orders

    first, second = passes()
    assert len(set(first)) == len(first) == 48
    assert first != second
    assert passes() == [first, second]


def test_keras_trains_on_it(tmp_path: Path) -> None:
    import keras

    store, keys, features = filled(tmp_path)
    model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    history = model.fit(
        as_dataset(store, keys, features[:, :1]), epochs=2, verbose=0, shuffle=False
    )
    assert len(history.history["loss"]) == 2


def test_rows_that_are_missing_are_told_at_once(tmp_path: Path) -> None:
    store, keys, _ = filled(tmp_path)
    with pytest.raises(MissingRows):
        as_dataset(store, 255 - keys, np.zeros(50))
    with pytest.raises(ValueError, match="50 keys, 49 labels"):
        as_dataset(store, keys, np.zeros(49))
    with pytest.raises(ValueError, match="at least one"):
        as_dataset(store, keys[:0], np.zeros(0))
    with pytest.raises(ValueError, match="batch_size is 0"):
        as_dataset(store, keys, np.zeros(50), batch_size=0)


def test_the_rows_are_not_held(tmp_path: Path) -> None:
    store, keys, _ = filled(tmp_path, rows=4000, dims=2000)
    order = np.random.default_rng(1).permutation(4000)
    dataset = as_dataset(store, keys[order], np.zeros(4000))
    next(iter(dataset))
    tracemalloc.start()
    try:
        assert sum(len(rows) for rows, _ in dataset) == 4000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000, "of 32 MB of features"


def test_importing_it_takes_no_tensorflow() -> None:
    code = "import sys, pipeline; pipeline.as_dataset; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
