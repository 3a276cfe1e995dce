"""What the BatchNorm trap costs: heads trained on batch statistics, served with stored ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.quiet import import_keras
from pipeline.batchnorm.layers import Norm, in_graph, in_training_form
from pipeline.batchnorm.measure import in_batches
from pipeline.evaluate import Labels, folds
from pipeline.heads import FoldRows, fit_one
from pipeline.heads.logistic import LogisticTrainer

FOLDS = 5
C = 0.1
"""Of the logistic regression: what the default sweep recommends for most pooled features."""


@dataclass(frozen=True, slots=True)
class Trap:
    """Accuracies of one head, logistic regression, cross-validated on the same folds.

    Attributes
    ----------
    images, classes, folds
        On what.
    cached
        Trained and served with stored statistics: the cached way.
    served
        Trained on features of batch statistics, served with stored ones: the trap.
    promised
        Trained on features of batch statistics and scored on them: what training shows meanwhile.
    error
        Standard error of `loss`, by the images on which the two differ.
    """

    images: int
    classes: int
    folds: int
    cached: float
    served: float
    promised: float
    error: float

    @property
    def loss(self) -> float:
        """What the trap costs."""
        return self.cached - self.served


def batch_features(
    model: Any, norms: Sequence[Norm], images: NDArray[np.uint8], size: int, seed: int
) -> NDArray[np.float32]:
    """Compute features with the statistics of the batches, as ``fit`` would have them.

    Parameters
    ----------
    model
        From pixels to rows, its first output, in batches of `size` images.
    norms
        Its BatchNorm layers; they hold afterwards what they held before.
    images
        uint8 ``(n, h, w, 3)``.
    seed
        Of the order of the images, which is shuffled as ``fit`` does it.

    Returns
    -------
    ndarray of float32, shape (n, dims)
        In the order of the images.
    """
    keras = import_keras()
    shuffled = np.random.default_rng(seed).permutation(len(images))
    run = in_graph(lambda batch: keras.tree.flatten(model(batch, training=False))[0])
    with in_training_form(norms):
        rows = [
            keras.ops.convert_to_numpy(run(keras.ops.convert_to_tensor(batch))).reshape(size, -1)
            for batch in in_batches(images[shuffled], size)
        ]
    features = np.empty((len(images), rows[0].shape[1]), np.float32)
    features[shuffled] = np.concatenate(rows)[: len(images)]
    return features


def measure(
    stored: NDArray[np.float32],
    batched: NDArray[np.float32],
    labels: Labels,
    groups: Labels,
    seed: int,
) -> Trap:
    """Train heads for real, on both kinds of features, and score them on images of other folds.

    Parameters
    ----------
    stored, batched
        float32 ``(n, dims)``: features by stored and by batch statistics.
    labels
        ``(n,)`` integers from 0 on, each at least twice.
    groups
        ``(n,)`` integers: images that no fold divides.

    Raises
    ------
    UsageError
        Fewer groups than folds.
    """
    count = min(FOLDS, int(np.bincount(labels).min()))
    classes = int(labels.max()) + 1
    right = {name: np.zeros(len(labels), bool) for name in ("cached", "served", "promised")}
    for train, test in folds(labels, groups, count, seed):
        for name, fit_on, scored_on in (
            ("cached", stored, stored),
            ("served", batched, stored),
            ("promised", batched, batched),
        ):
            rows = FoldRows(fit_on[train], labels[train], classes)
            head = fit_one(LogisticTrainer(C), rows, seed).head
            right[name][test] = head.logits(scored_on[test]).argmax(axis=1) == labels[test]
    apart = right["cached"].astype(np.float64) - right["served"]
    scores = {name: float(each.mean()) for name, each in right.items()}
    error = float(apart.std() / np.sqrt(len(apart)))
    return Trap(len(labels), classes, count, error=error, **scores)
