"""Heads by name, the settings each takes, and the default sweep."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from pipeline.errors import UsageError
from pipeline.heads.base import HeadSpec, Trainer
from pipeline.heads.discriminant import CentroidTrainer, LdaTrainer
from pipeline.heads.logistic import LogisticTrainer
from pipeline.heads.mlp import MlpTrainer
from pipeline.heads.neighbours import NeighboursTrainer
from pipeline.heads.ridge import RidgeTrainer
from pipeline.heads.svc import SvcTrainer
from pipeline.heads.svm import SvmTrainer
from pipeline.text import nearest

HEADS: dict[str, Callable[..., Trainer]] = {
    "logistic": LogisticTrainer,
    "ridge": RidgeTrainer,
    "svm": SvmTrainer,
    "svc": SvcTrainer,
    "lda": LdaTrainer,
    "knn": NeighboursTrainer,
    "centroid": CentroidTrainer,
    "mlp": MlpTrainer,
}
"""Trainer of each head by the name that the leaderboard shows."""

ALONE = frozenset({"mlp"})
"""Heads whose settings share no work, and whose fits take long: each is fitted by itself."""

REQUIRED = inspect.Parameter.empty
"""In place of the default of a setting that has to be given."""

_INNER = {"probabilistic", "ended"}


def trainer(spec: HeadSpec) -> Trainer:
    """Make the trainer of a specification.

    Raises
    ------
    UsageError
        Where no head has that name or the head no such setting; near names are suggested. Also
        where a setting without a default is missing, or one is impossible, not finite or no JSON
        value.
    """
    known = settings_of(spec.head)
    for name in spec.settings:
        if name not in known:
            raise UsageError(
                f"the head {spec.head} has no setting {name!r}{nearest(name, list(known))}"
            )
    try:
        spec.plain()
    except (TypeError, ValueError) as error:
        raise UsageError(f"the head {spec.name} has a setting that cannot be: {error}") from error
    try:
        return HEADS[spec.head](**spec.settings)
    except TypeError as error:
        raise UsageError(f"the head {spec.head} takes {', '.join(known)}: {error}") from error
    except ValueError as error:
        raise UsageError(f"the head {spec.name} cannot be: {error}") from error


def settings_of(head: str) -> dict[str, Any]:
    """List the settings of a head with their defaults, `REQUIRED` for one that has none.

    Raises
    ------
    UsageError
        Where no head has that name; near names are suggested.
    """
    _check_known(head)
    parameters = inspect.signature(HEADS[head]).parameters
    return {name: p.default for name, p in parameters.items() if name not in _INNER}


def default_specs(heads: Sequence[str] = ()) -> tuple[HeadSpec, ...]:
    """List the default sweep, of 46 settings of 8 heads, or those of the heads named.

    The ranges are for pooled features, standardised where the head is not by cosine: some
    thousands of columns and no more rows, where strong penalties win.

    Raises
    ------
    UsageError
        Where no head has such a name; near names are suggested.
    """
    for head in heads:
        _check_known(head)
    specs = (
        *_grid("logistic", C=(0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 1.0)),
        *_grid("logistic", class_weight=("balanced",), C=(0.001, 0.01, 0.1)),
        *_grid("ridge", alpha=(10.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0, 100000.0)),
        *_grid("svm", C=(1e-6, 1e-5, 1e-4, 1e-3)),
        *_grid("svc", kernel=("linear",), C=(1e-4, 1e-3, 1e-2)),
        *_grid("svc", kernel=("rbf",), C=(1.0, 10.0)),
        *_grid("lda", shrinkage=("auto", 0.1, 0.3, 0.5, 0.7, 0.9)),
        *_grid("knn", k=(1, 3, 5, 7, 9, 15, 25, 50)),
        *_grid("centroid", metric=("euclidean", "cosine")),
        *_grid("mlp", hidden=((256,), (512, 256)), dropout=(0.2, 0.5)),
    )
    return tuple(spec for spec in specs if not heads or spec.head in heads)


def _check_known(head: str) -> None:
    if head not in HEADS:
        raise UsageError(f"there is no head {head!r}{nearest(head, list(HEADS))}")


def _grid(head: str, **axes: tuple[Any, ...]) -> tuple[HeadSpec, ...]:
    """Every combination of the axes' values."""
    points = product(*axes.values())
    return tuple(HeadSpec(head, dict(zip(axes, point, strict=True))) for point in points)
