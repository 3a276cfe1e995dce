"""Cached features as a `tf.data.Dataset` of batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from cache import FeatureStore


def as_dataset(
    store: FeatureStore,
    keys: ArrayLike,
    labels: ArrayLike,
    *,
    views: ArrayLike | None = None,
    batch_size: int = 32,
    shuffle: bool = False,
    seed: int = 0,
    drop_remainder: bool = False,
) -> Any:
    """Return a data set that yields ``(rows, labels)`` batch by batch, straight from the store.

    A batch is read when it is asked for: neither the features nor a copy of them are held. As rows
    are found by key in microseconds, shuffling is of all rows, anew in each pass, with no buffer.

    Parameters
    ----------
    store
        Where the rows are.
    keys : array of uint8, shape (n, 32)
        SHA-256 of each image, in the order wanted.
    labels : array, shape (n, ...)
        What is yielded beside each row.
    views : array of uint32, shape (n,), optional
        Numbers of augmented views; 0, the plain image, by default.
    batch_size
        Rows in a batch; the last has fewer unless `drop_remainder`.
    shuffle, seed
        Whether each pass is in another order, and what that order follows from.
    drop_remainder
        Leave out a last batch that is not full.

    Returns
    -------
    tf.data.Dataset
        Of ``(batch, dims)`` in the store's dtype and ``(batch, ...)`` in that of the labels; its
        cardinality is known.

    Raises
    ------
    ValueError
        Keys and labels are not equally many, there are none, or the batch size is below 1.
    MissingRows
        Some rows are not in the store; told at once and not in the middle of a pass.
    """
    import tensorflow as tf

    wanted, targets = np.asarray(keys), np.asarray(labels)
    numbers = np.zeros(len(wanted), np.uint32) if views is None else np.asarray(views)
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: expected at least 1")
    if not len(wanted) == len(targets) == len(numbers) > 0:
        raise ValueError(
            f"{len(wanted)} keys, {len(targets)} labels and {len(numbers)} views: "
            "expected as many of each, and at least one"
        )
    missing = store.missing(wanted, numbers)
    if len(missing):
        from cache import MissingRows

        raise MissingRows(missing, store.folder)
    rng = np.random.default_rng(seed)

    def batches() -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        order = rng.permutation(len(wanted)) if shuffle else np.arange(len(wanted))
        stop = len(order) - len(order) % batch_size if drop_remainder else len(order)
        for low in range(0, stop, batch_size):
            part = order[low : min(low + batch_size, stop)]
            yield store.read(wanted[part], numbers[part]), targets[part]

    length = batch_size if drop_remainder else None
    dataset = tf.data.Dataset.from_generator(
        batches,
        output_signature=(
            tf.TensorSpec((length, store.dims), tf.as_dtype(store.recipe.dtype)),
            tf.TensorSpec((length, *targets.shape[1:]), tf.as_dtype(targets.dtype)),
        ),
    )
    count = len(wanted) // batch_size if drop_remainder else -(-len(wanted) // batch_size)
    return dataset.apply(tf.data.experimental.assert_cardinality(count)).prefetch(2)
