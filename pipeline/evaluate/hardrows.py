"""Rows that most heads get wrong: mislabelled, odd, or simply hard."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.evaluate.outoffold import OutOfFold


@dataclass(frozen=True)
class HardRow:
    """A row that more than half of the predictions got wrong.

    Attributes
    ----------
    row
        Its position.
    share
        Share of the predictions (heads, times repeats) that were wrong.
    given
        The label that most of these gave; the first of equals.
    votes
        Share of all predictions that gave it.
    """

    row: int
    share: float
    given: int
    votes: float


def hard_rows(oof: OutOfFold) -> list[HardRow]:
    """Find the rows that most heads get wrong, worst first; equals in the order of the rows.

    Heads are given equal say, so many settings of one kind outvote a few of another.
    """
    labels, size = oof.labels, oof.logits[0].shape[-1]
    given = np.concatenate(
        [logits.argmax(axis=-1).reshape(-1, len(labels)) for logits in oof.logits]
    )
    share = (given != labels).mean(axis=0)
    worst = np.argsort(-share, kind="stable")
    rows = worst[: np.count_nonzero(share > 0.5)]
    return [_hard(int(row), float(share[row]), given[:, row], labels[row], size) for row in rows]


def _hard(
    row: int, share: float, given: np.ndarray[tuple[int], np.dtype[np.int64]], label: int, size: int
) -> HardRow:
    counts = np.bincount(given, minlength=size)
    counts[label] = 0
    instead = int(counts.argmax())
    return HardRow(row, share, instead, float(counts[instead] / len(given)))
