"""How often the holdout was looked at: each look makes the next one a little less honest."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache.atomic import unique_name


def looked(file: Path, keys: NDArray[np.uint8]) -> int:
    """Note one more look at a holdout, and say the how manieth it is.

    Parameters
    ----------
    file
        Where looks are remembered; what cannot be read is begun anew.
    keys
        uint8 ``(n, 32)``, the images of the holdout, in any order: the same images are the same
        holdout, whatever the rest of the data set is.
    """
    name = hashlib.sha256(np.unique(keys, axis=0).tobytes()).hexdigest()
    looks: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(file.read_text(encoding="ascii"))
        looks = {str(key): int(count) for key, count in content.items()}
    looks[name] = looks.get(name, 0) + 1
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.parent / f".{unique_name()}.tmp"
        temporary.write_text(json.dumps(looks, indent=1) + "\n", encoding="ascii")
        temporary.replace(file)
    return looks[name]
