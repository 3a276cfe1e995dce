"""Finished fits, kept so that no sweep computes one twice.

One SQLite file: what is in it after a kill is what was put, whole; several sweeps may use it at
once; and it is disposable, so whatever is wrong with it costs time and no result.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.base import HeadSpec

# Part of every key: fits that would come out otherwise are of another version.
_RULE = "headstart-fit-2"
_LIBRARIES = ("numpy", "scikit-learn", "keras", "tensorflow")
_WAIT = 30.0  # seconds for another process that is writing


@dataclass(frozen=True, slots=True)
class Fit:
    """What stays of one fit: enough to score it, now or under another metric.

    Attributes
    ----------
    logits
        float32 ``(n, c)`` of the rows that are scored.
    train_scores
        By metric, the score on the rows trained on; None where it is not defined.
    iterations, converged
        As :class:`pipeline.heads.Fitted` has them.
    seconds
        Spent in fitting. Settings fitted together share their time equally.
    """

    logits: NDArray[np.float32]
    train_scores: Mapping[str, float | None]
    iterations: int
    converged: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Rows:
    """What names the rows of a fit, in their order.

    Attributes
    ----------
    recipe
        Digest of the recipe that their features were made by.
    keys
        uint8 ``(n, 32)``.
    """

    recipe: str
    keys: NDArray[np.uint8]


def digest_of_rows(
    rows: Rows,
    trained: NDArray[np.int64],
    scored: NDArray[np.int64],
    labels: NDArray[Any],
    groups: NDArray[Any] | None,
    views: str = "",
) -> str:
    """Name what a fit of any head on these rows depends on.

    Labels of the rows scored are not among it. Groups count by who is in one with whom.

    Parameters
    ----------
    trained, scored
        Positions among all rows.
    labels, groups
        ``(n,)`` integers of all rows.
    views
        What names the augmented views that are fitted on as well; empty where there are none.
    """
    digest = hashlib.sha256(f"{rows.recipe}{views}".encode("ascii"))
    alone = np.arange(len(trained)) if groups is None else groups[trained]
    _, together = np.unique(alone, return_inverse=True)
    parts = (rows.keys[trained], rows.keys[scored], labels[trained], together.ravel())
    for part in parts:
        digest.update(np.int64(len(part)).tobytes())
        digest.update(np.ascontiguousarray(part, None if part.ndim == 2 else "<i8").data)
    return digest.hexdigest()


def digest_of_fit(rows: str, spec: HeadSpec, n_classes: int, seed: int) -> str:
    """Name a fit: equal names are equal fits, whatever sweep they are part of."""
    parts = {
        "rule": _RULE,
        "rows": rows,
        "head": spec.head,
        "settings": spec.plain(),
        "classes": n_classes,
        "seed": seed,
        "versions": _versions(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("ascii")).hexdigest()


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in _LIBRARIES}


class Memory(Protocol):
    """Where finished fits are found again."""

    def get(self, name: str) -> Fit | None:
        """Return the fit of that name; None where it is not kept."""

    def put(self, name: str, fit: Fit) -> None:
        """Keep a fit; after this returned, a kill of the process does not lose it."""


class Forgetful:
    """Keeps nothing."""

    def get(self, name: str) -> Fit | None:
        """Return None."""
        return None

    def put(self, name: str, fit: Fit) -> None:
        """Do nothing."""


class KeptFits:
    """Fits in a file; as a context manager, it is closed on the way out.

    Parameters
    ----------
    file
        Made where it is not there, and made anew where it is no database.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = Lock()
        try:
            self._database = _opened(file)
        except sqlite3.DatabaseError:
            for part in file.parent.glob(f"{file.name}*"):
                part.unlink()
            self._database = _opened(file)

    def __enter__(self) -> KeptFits:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def get(self, name: str) -> Fit | None:
        """Return the fit of that name; None where it is not kept, or not what was put."""
        with contextlib.suppress(sqlite3.Error, ValueError, KeyError, TypeError):
            query = "SELECT told, logits FROM fits WHERE name = ?"
            with self._lock:
                found = self._database.execute(query, (name,)).fetchone()
            return None if found is None else _unpacked(*found)
        return None

    def put(self, name: str, fit: Fit) -> None:
        """Keep a fit. A full disk or a damaged file keeps nothing, and stops nobody."""
        with contextlib.suppress(sqlite3.Error), self._lock, self._database:
            self._database.execute(
                "INSERT OR REPLACE INTO fits VALUES (?, ?, ?)", (name, *_packed(fit))
            )


def _opened(file: Path) -> sqlite3.Connection:
    # Folds are fitted in threads, which take turns by the lock of `KeptFits`.
    database = sqlite3.connect(file, timeout=_WAIT, check_same_thread=False)
    try:
        # A power cut may cost the last fits, a kill of the process none: one fsync a fit would
        # take longer than many fits do.
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = OFF")
        with database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS fits (name TEXT PRIMARY KEY, told TEXT, logits BLOB)"
            )
        database.execute("SELECT count(*) FROM fits WHERE name = ''").fetchone()
    except BaseException:
        database.close()
        raise
    return database


def _packed(fit: Fit) -> Iterator[str | bytes]:
    logits = np.ascontiguousarray(fit.logits, "<f4")
    checked = hashlib.sha256(logits.data).hexdigest()
    yield json.dumps(
        {
            "shape": logits.shape,
            "sha256": checked,
            "train_scores": dict(fit.train_scores),
            "iterations": fit.iterations,
            "converged": fit.converged,
            "seconds": fit.seconds,
        }
    )
    yield logits.tobytes()


def _unpacked(told: str, blob: bytes) -> Fit:
    facts = json.loads(told)
    if hashlib.sha256(blob).hexdigest() != facts["sha256"]:
        raise ValueError("the logits are not those that were put")
    return Fit(
        logits=np.frombuffer(blob, "<f4").reshape(facts["shape"]),
        train_scores=facts["train_scores"],
        iterations=facts["iterations"],
        converged=facts["converged"],
        seconds=facts["seconds"],
    )
