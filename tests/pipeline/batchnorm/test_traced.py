from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.backbones.quiet import import_keras
from pipeline.batchnorm.traced import training_forms

if import_keras().backend.backend() != "tensorflow":
    pytest.skip("a graph that can be looked at is TensorFlow's alone", allow_module_level=True)

import tensorflow as tf

SHAPE = (4, 6, 6, 3)


def traced(function: Callable[[Any], Any]) -> Any:
    return tf.function(function).get_concrete_function(tf.TensorSpec(SHAPE, tf.float32))


def test_inference_has_none() -> None:
    keras = import_keras()
    norm = keras.layers.BatchNormalization()
    norm.build(SHAPE)
    pool = keras.layers.GlobalAveragePooling2D()
    assert training_forms(traced(lambda x: pool(norm(x, training=False)))) == ()


def test_keras_training_form_is_found_by_what_it_writes_and_by_what_it_sums_over() -> None:
    norm = import_keras().layers.BatchNormalization()
    norm.build(SHAPE)
    found = " ".join(training_forms(traced(lambda x: norm(x, training=True))))
    assert "writes a variable" in found
    assert "over the images of a batch" in found


@pytest.mark.parametrize("training", [True, False])
def test_a_fused_batchnorm_is_found_where_it_is_told_to_train(training: bool) -> None:
    three = tf.ones(3)

    def fused(x: Any) -> Any:
        empty = tf.zeros(0) if training else three
        return tf.raw_ops.FusedBatchNormV3(
            x=x, scale=three, offset=three, mean=empty, variance=empty, is_training=training
        ).y

    found = training_forms(traced(fused))
    assert bool(found) == training
    assert all("in training form" in each for each in found)


def test_functions_that_are_called_from_others_are_looked_into() -> None:
    inner = tf.function(lambda x: x - tf.reduce_mean(x, axis=(0, 1, 2)), autograph=False)
    with_inner = traced(lambda x: inner(x) * 2)
    assert all("Mean" not in each.type for each in with_inner.graph.get_operations())
    (found,) = training_forms(with_inner)
    assert "over the images of a batch" in found
