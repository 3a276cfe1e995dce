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
from pipeline.heads.mlp_compiled import CompiledNetwork, load_kernels
from pipeline.heads.mlp_graph import GraphNetwork, GraphRows
from pipeline.heads.mlp_keras import KerasNetwork
from pipeline.heads.ranges import check_setting
from pipeline.heads.rows import FoldRows
from pipeline.heads.size import FLOAT32_BYTES, HeadSize, mlp_parameters
from pipeline.heads.threads import one_blas_thread
from pipeline.memory import members_at_once, memory_at_hand
from pipeline.workers import in_order

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
    ended
        Asked after each epoch: where it says so the fit ends, and has not converged. No setting,
        but a budget or an interrupt.
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
    ended: Callable[[], bool] | None = field(default=None, repr=False, compare=False)

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
        shape = (*rows.features.shape, rows.n_classes)
        jobs = zip((one.at_once(*shape) for one in trainers), trainers, seeds, strict=True)
        for at_once, group in groupby(jobs, key=lambda job: job[0]):
            make = _maker(rows, at_once)
            tasks = [partial(_fit, trainer, rows, seed, make) for _, trainer, seed in group]
            # Where memory says how many train at once, none that is done waits in it either.
            ahead = len(tasks) if at_once == usable_cores() else at_once - 1
            with one_blas_thread():
                yield from in_order(tasks, min(at_once, len(tasks)), ahead)

    def at_once(self, rows: int, dims: int, n_classes: int) -> int:
        """Reckon how many such networks can train side by side: a core each, as memory allows."""
        if load_kernels() is None and not _on_tensorflow():
            return 1
        each = self.bytes_to_train(rows, dims, n_classes)
        return members_at_once(usable_cores(), each, memory_at_hand())

    def bytes_to_train(self, rows: int, dims: int, n_classes: int) -> int:
        """Reckon the memory that a fit takes beside the rows: the weights' copies, and dropout."""
        size = self.head_size(rows, dims, n_classes)
        return COPIES * size.bytes + FLOAT32_BYTES * rows * sum(self.hidden)


def _maker(rows: FoldRows, at_once: int) -> Callable[[Member], Network]:
    """Choose what trains: compiled kernels where each member has a core, else what Keras runs on.

    A network too large for two at once gets all cores, which TensorFlow knows to use.
    """
    # What members share is made here, where there is one thread yet.
    assert rows.standardised is not None
    alone = at_once == 1 < usable_cores()
    kernels = load_kernels()
    if kernels is not None and not (alone and _on_tensorflow()):
        return lambda member: CompiledNetwork(member, kernels)
    if not _on_tensorflow():
        return KerasNetwork
    shared = GraphRows(rows)
    return lambda member: GraphNetwork(member, shared)


def _on_tensorflow() -> bool:
    backend: str = import_keras().backend.backend()
    return backend == "tensorflow"


def _fit(
    trainer: MlpTrainer,
    rows: FoldRows,
    seed: int,
    make: Callable[[Member], Network],
    cancelled: Event,
) -> Fitted | None:
    member = Member.drawn(trainer, rows, seed)
    return train(member, make(member), cancelled)
