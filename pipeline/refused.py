"""Images that cannot be used: which, why, and on which store's list."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.images.formats import Transient, Undecodable
from pipeline.images.rejects import Reject, write_rejects
from pipeline.sink import NOT_FINITE


def among(keys: NDArray[np.uint8], few: Collection[bytes]) -> NDArray[np.bool_]:
    """Tell which keys are in a collection, which mostly is empty."""
    if not few:
        return np.zeros(len(keys), bool)
    return np.array([key.tobytes() in few for key in keys], bool)


def note_rejects(folder: Path, rejects: Sequence[Reject], unfit: Container[bytes | None]) -> None:
    """List what cannot be used; that features are not finite is one store's affair alone."""
    ours = [r for r in rejects if r.reason != NOT_FINITE or r.key in unfit]
    if ours:
        write_rejects(folder, ours)


def rejected(
    path: Path, key: bytes, hopeless: Mapping[bytes, str], failed: Mapping[bytes, Undecodable]
) -> Reject:
    """Say why an image is not used; a failure that may pass is not held against its bytes."""
    if key in hopeless:
        return Reject(path, key, hopeless[key], undecodable=True)
    error = failed[key]
    lasting = not isinstance(error, Transient)
    return Reject(path, key if lasting else None, str(error), undecodable=lasting)
