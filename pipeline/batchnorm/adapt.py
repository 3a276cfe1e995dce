"""BatchNorm statistics re-estimated on images, layer upon layer, then frozen again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.quiet import import_keras
from pipeline.batchnorm.layers import Norm, Statistics, called_by, in_graph
from pipeline.batchnorm.measure import channel_moments
from pipeline.batchnorm.moments import Moments

BYTES_PER_PIXEL = 320
"""Memory of the pass, per pixel of all images together, with Keras on TensorFlow.

Measured at 224 pixels: 200 for efficientnet-lite0, 275 for resnet50. Other backends, and a network
that is not one graph, keep more: up to ten times that."""


def adapt(
    model: Any, norms: Sequence[Norm], images: NDArray[Any], mix: float
) -> dict[str, Statistics]:
    """Have each layer hold the exact moments of what it is given, on top of adapted lower layers.

    As in Li et al., AdaBN (2016, https://arxiv.org/abs/1603.04779), mixed with what was stored as
    in Schneider et al., "Improving robustness against common corruptions by covariate shift
    adaptation" (2020, https://arxiv.org/abs/2006.16971, equation 2, where the weight of the data is
    ``n / (N + n)``): mean and variance are each ``(1 - mix) * stored + mix * data``, and so they
    are in the lower layers while the higher ones are measured.

    One pass, of all images as one batch, in which each layer normalises what it passes on by the
    (mixed) moments of what it was given. That is exactly what adapting one layer after the other
    gives, which takes as many passes as there are layers; moments of single images are put together
    in float64. What is cheaper was measured with efficientnet-lite0 on 128 images of 224 pixels, by
    how far features then lie from those of the exact statistics, as a part of their length, on
    fruit_veg and on brain_mri_orig: batches of 64 normalised by their own moments, put together
    afterwards, 0.08 and 0.19; of 16, 0.30 and 0.40; one pass through the stored statistics, 2.5 and
    3.7, which is farther off than not to adapt (1.0 and 1.4), and further such passes diverge until
    there are nearly as many as layers. So none of them will do.

    Parameters
    ----------
    model
        From a batch of pixels, of any size, to anything.
    norms
        Its layers; they hold what was adapted afterwards.
    images
        ``(n, h, w, 3)``, all of which go through the network at once; see `BYTES_PER_PIXEL`.
    mix
        From 0, as stored, to 1, the data's own.

    Returns
    -------
    dict of Statistics
        By the name of the layer.
    """
    stored = [norm.statistics for norm in norms]
    keras = import_keras()
    run = in_graph(lambda batch: _heard(model, norms, stored, mix, batch))
    total: dict[int, Moments] = {}
    for number, size, *parts in run(keras.ops.convert_to_tensor(images)):
        own = Moments.of_parts(int(size), *map(keras.ops.convert_to_numpy, parts))
        before = total.get(int(number))
        total[int(number)] = before.merged(own) if before else own
    for number, norm in enumerate(norms):
        norm.set(mixed(stored[number], total[number].statistics, mix))
    return {norm.name: norm.statistics for norm in norms}


def _heard(
    model: Any, norms: Sequence[Norm], stored: Sequence[Statistics], mix: float, batch: Any
) -> list[tuple[int, int, Any, Any]]:
    """Run a batch by its own moments, and tell them; see `channel_moments`."""
    ops = import_keras().ops
    heard: list[tuple[int, int, Any, Any]] = []

    def call_of(number: int, own: Any) -> Any:
        layer, before = norms[number].layer, stored[number]

        def call(inputs: Any, training: Any = None, mask: Any = None) -> Any:
            size, means, variances = channel_moments(inputs, layer.axis)
            heard.append((number, size, means, variances))
            mean = ops.mean(means, axis=0)
            variance = ops.mean(variances + ops.square(means - mean), axis=0)
            return ops.batch_normalization(
                inputs,
                (1 - mix) * before.mean + mix * mean,
                (1 - mix) * before.variance + mix * variance,
                axis=layer.axis,
                offset=layer.beta,
                scale=layer.gamma,
                epsilon=layer.epsilon,
            )

        return call

    with called_by(norms, call_of):
        model(batch, training=False)
    return heard


def mixed(stored: Statistics, data: Statistics, mix: float) -> Statistics:
    """Weigh two means, and two variances, in float64."""
    pairs = ((stored.mean, data.mean), (stored.variance, data.variance))
    return Statistics(
        *(((1 - mix) * a.astype(np.float64) + mix * b).astype(np.float32) for a, b in pairs)
    )
