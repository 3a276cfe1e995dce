"""MLP heads with dropout, trained by the dozen; early stopping restores the best weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import groupby
from threading import Event
from typing import Literal, Self

from pipeline.backbones.quiet import import_keras
from pipeline.config import usable_cores
from pipeline.heads.base import Fitted
from pipeline.heads.member import Member, Network, train
from pipeline.heads.mlp_graph import GraphNetwork, GraphRows
from pipeline.heads.mlp_keras import KerasNetwork
from pipeline.heads.ranges import check_setting
from pipeline.heads.rows import FoldRows
from pipeline.heads.size import FLOAT32_BYTES, HeadSize, mlp_parameters
from pipeline.heads.workers import in_order
from pipeline.memory import members_at_once, memory_at_hand

COPIES = 6
"""Of a network's weights while it trains: themselves, Adam's two moments, gradients, the best
weights so far, and those handed out."""


@dataclass(frozen=True)
class MlpTrainer:
    """Dense layers of ``hidden`` units with ReLU and dropout, cross-entropy, Adam.

    Every epoch goes through the rows in an order of its own, drawn from the fit's seed. A part of
    the rows given, stratified and never dividing a group, is kept from training; its mean
    cross-entropy ends the training, and the weights that had the best one are kept.

    Attributes
    ----------
    hidden
        Units of each hidden layer, from the input on; none for softmax regression.
    dropout
        Rate after each hidden layer.
    learning_rate, batch_size
        Of Adam; the last batch of an epoch has what is left.
    epochs, patience
        At most so many epochs, and so many without a better loss end it. Without a patience no row
        is kept from training, all epochs are trained, and the last weights count.
    stopping_fraction
        Share of the rows kept for early stopping.
    weight_decay
        Decoupled, of weights and biases, as AdamW has it.
    l2
        This times the sum of the squares of the weights, without biases, is added to the loss.
    label_smoothing
        Share of the target that is spread over all classes.
    class_weight
        ``"balanced"`` lets all classes count alike in the loss.
    until
        When to end after the epoch at hand, by `time.monotonic`; the fit has then not converged.
        No setting, but a budget.
    """

    hidden: Sequence[int] = (256,)
    dropout: float = 0.5
    learning_rate: float = 1e-3
    batch_size: int = 32
    epochs: int = 20
    patience: int | None = 5
    stopping_fraction: float = 0.125
    weight_decay: float = 0.0
    l2: float = 0.0
    label_smoothing: float = 0.0
    class_weight: Literal["balanced"] | None = None
    probabilistic: bool = True
    until: float | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        for setting in fields(self):
            check_setting("mlp", setting.name, getattr(self, setting.name))

    def head_size(self, rows: int, dims: int, n_classes: int) -> HeadSize:
        """Count weights and biases."""
        return HeadSize(mlp_parameters(dims, self.hidden, n_classes))

    @classmethod
    def fit_all(
        cls, trainers: Sequence[Self], rows: FoldRows, seeds: Sequence[int]
    ) -> Iterator[Fitted]:
        """Train a core each; see :class:`pipeline.heads.base.Trainer`."""
        make, most = _maker(rows)
        at_hand = memory_at_hand()
        jobs = [
            (members_at_once(most, trainer.bytes_to_train(rows), at_hand), trainer, seed)
            for trainer, seed in zip(trainers, seeds, strict=True)
        ]
        for at_once, group in groupby(jobs, key=lambda job: job[0]):
            tasks = [partial(_fit, trainer, rows, seed, make) for _, trainer, seed in group]
            # Where memory says how many train at once, none that is done waits in it either.
            yield from in_order(tasks, at_once, len(tasks) if at_once == most else at_once - 1)

    def bytes_to_train(self, rows: FoldRows) -> int:
        """Reckon the memory that a fit takes beside the rows: the weights' copies, and dropout."""
        size = self.head_size(len(rows.labels), rows.features.shape[1], rows.n_classes)
        return COPIES * size.bytes + FLOAT32_BYTES * len(rows.labels) * sum(self.hidden)


def _maker(rows: FoldRows) -> tuple[Callable[[Member], Network], int]:
    """How to make networks on Keras' backend, and how many can train at once."""
    # Made here, where there is one thread yet; the members share them.
    assert rows.standardised is not None
    keras = import_keras()
    if keras.backend.backend() != "tensorflow":
        return KerasNetwork, 1
    shared = GraphRows(rows)
    return lambda member: GraphNetwork(member, shared), usable_cores()


def _fit(
    trainer: MlpTrainer,
    rows: FoldRows,
    seed: int,
    make: Callable[[Member], Network],
    cancelled: Event,
) -> Fitted | None:
    member = Member.drawn(trainer, rows, seed)
    return train(member, make(member), cancelled)
