"""A part of the work, for machines that share a folder and nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError

_WRITTEN = re.compile(r"(\d{1,6})/(\d{1,6})", re.ASCII)


@dataclass(frozen=True, slots=True)
class WorkShard:
    """Part `index` of `count`; counted from 1, as the shards of test runners are.

    Which part an image is of hangs on its key alone, the SHA-256 of its bytes: not on its name, its
    place or the other images. So the parts are disjoint, together they are the whole, and they are
    of nearly equal size.

    Raises
    ------
    UsageError
        The index is not from 1 to the count.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise UsageError(
                f"--shard {self.index}/{self.count}: there is no such part; write I/N with I from "
                "1 to N, such as 1/4 to 4/4 for four machines"
            )

    @classmethod
    def parse(cls, text: str) -> WorkShard:
        """Read ``I/N``.

        Raises
        ------
        UsageError
            It is not written like that, or there is no such part.
        """
        written = _WRITTEN.fullmatch(text.strip())
        if written is None:
            raise UsageError(f"--shard {text}: write I/N, such as 1/4 for the first of four parts")
        return cls(int(written[1]), int(written[2]))

    def mask(self, keys: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Tell which keys, uint8 ``(n, 32)``, are of this part: bool ``(n,)``."""
        numbers = np.ascontiguousarray(keys[:, :8]).view("<u8").ravel()
        return np.asarray(numbers % np.uint64(self.count) == self.index - 1)
