"""MLP heads with dropout, trained by the dozen; early stopping restores the best weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal, Self

from pipeline.backbones.quiet import import_keras
from pipeline.config import usable_cores
from pipeline.heads.base import Fitted
from pipeline.heads.member import Member, Network, train
from pipeline.heads.mlp_compiled import CompiledNetwork, load_kernels
from pipeline.heads.mlp_graph import GraphNetwork
from pipeline.heads.mlp_keras import KerasNetwork
from pipeline.heads.ranges import check_setting
from pipeline.heads.rows import FoldRows
from pipeline.heads.size import FLOAT32_BYTES, HeadSize, mlp_parameters
from pipeline.heads.threads import one_blas_thread
from pipeline.memory import members_at_once, memory_at_hand

COPIES = 6
"""Of a network's weights while it trains: themselves, Adam's two moments, gradients or the start,
the best weights so far, and those handed out."""

LARGE = 1 << 30
"""Bytes of a network's copies from which on all cores train it together."""


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
        """Train one after the other; see :class:`pipeline.heads.base.Trainer`."""
        shape = (*rows.features.shape, rows.n_classes)
        with one_blas_thread():
            for trainer, seed in zip(trainers, seeds, strict=True):
                member = Member.drawn(trainer, rows, seed)
                yield train(member, _network(member, large=trainer.is_large(*shape)))

    def is_large(self, rows: int, dims: int, n_classes: int) -> bool:
        """Whether one fit is worth all cores: its weights are far from any cache of one of them."""
        return COPIES * self.head_size(rows, dims, n_classes).bytes >= LARGE

    def at_once(self, rows: int, dims: int, n_classes: int) -> int:
        """Reckon how many such networks can train side by side: a core each, as memory allows."""
        shape = (rows, dims, n_classes)
        if self.is_large(*shape) or (load_kernels() is None and not _on_tensorflow()):
            return 1
        return members_at_once(usable_cores(), self.bytes_to_train(*shape), memory_at_hand())

    def bytes_to_train(self, rows: int, dims: int, n_classes: int) -> int:
        """Reckon the memory of a fit: the weights' copies, dropout, and the rows in two forms."""
        size = self.head_size(rows, dims, n_classes)
        return COPIES * size.bytes + FLOAT32_BYTES * rows * (sum(self.hidden) + 2 * dims)


def _network(member: Member, *, large: bool) -> Network:
    """Choose what trains: compiled kernels on one core, else what Keras runs on.

    Of a large network TensorFlow shares every product and update between the cores.
    """
    kernels = load_kernels()
    if kernels is not None and not (large and _on_tensorflow()):
        return CompiledNetwork(member, kernels)
    return GraphNetwork(member) if _on_tensorflow() else KerasNetwork(member)


def _on_tensorflow() -> bool:
    backend: str = import_keras().backend.backend()
    return backend == "tensorflow"
