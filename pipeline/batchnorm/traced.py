"""Operations of a TensorFlow graph that no network has which runs in inference mode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# Whatever changes a variable: an optimiser's operations, and those that move BatchNorm's.
_WRITES = ("Assign", "ResourceApply", "ResourceScatter", "ResourceSparseApply")
_REDUCTIONS = frozenset({"Mean", "Sum", "Max", "Min", "Prod", "EuclideanNorm"})


def training_forms(function: Any) -> tuple[str, ...]:
    """List what a traced function does in training form.

    That is: a fused BatchNorm that is told to train; any operation that writes a variable; any sum
    or mean over the images of the batch, which is how one image comes to play a part in another's
    features. (Keras composes BatchNorm of plain operations, so that its training form shows as the
    latter two.)

    Parameters
    ----------
    function
        A ``tf.types.experimental.ConcreteFunction``; functions that it calls are looked into.

    Returns
    -------
    tuple of str
        One sentence's part an operation, with its name; empty for a graph of inference alone.
    """
    return tuple(told for operation in _operations(function.graph) if (told := _told(operation)))


def _operations(graph: Any) -> Iterator[Any]:
    """All operations, those of functions called from others included."""
    import tensorflow as tf

    yield from graph.get_operations()
    library = graph.as_graph_def().library.function
    if library:
        for one in library:
            inner = tf.Graph()
            with inner.as_default():
                # What a function calls is in its graph's own library.
                from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

                yield from function_def_to_graph(one).get_operations()


def _told(operation: Any) -> str:
    if operation.type.startswith("FusedBatchNorm") and operation.get_attr("is_training"):
        return f"{operation.name} is a BatchNorm in training form"
    if operation.type.startswith(_WRITES) or "Assign" in operation.type:
        return f"{operation.name} writes a variable ({operation.type})"
    if operation.type in _REDUCTIONS and _over_images(operation):
        return f"{operation.name} sums over the images of a batch ({operation.type})"
    return ""


def _over_images(operation: Any) -> bool:
    """Whether a reduction of numbers with at least two axes goes over the first of them."""
    import tensorflow as tf

    values, axes = operation.inputs[0], tf.get_static_value(operation.inputs[1])
    rank = values.shape.rank
    if rank is None or rank < 2 or not values.dtype.is_floating:
        return False
    return axes is None or any(int(axis) % rank == 0 for axis in axes.ravel())
