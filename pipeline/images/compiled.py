"""The compiled kernels, once they are ready and known to give Pillow's pixels.

Importing numba and loading kernels takes half a second of a core, compiling them some seconds (once
in each installation). A thread of its own does that while Pillow serves the images, and only when
enough of them have come by to make up for it. Who gets which image makes no difference: the
pixels are equal, which is checked against the installed Pillow before the first use. Without numba,
or where anything about it fails, Pillow goes on alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of an image, in pixels."""

Size: TypeAlias = tuple[int, int]
"""Width and height in pixels, as Pillow has it."""

WORTHWHILE = 256  # images; each saves about 2 ms


class Routines(Protocol):
    """What `pipeline.images.kernels` offers; see there."""

    def resize(
        self,
        rows: NDArray[np.uint8],
        left: np.float32,
        top: np.float32,
        right: np.float32,
        bottom: np.float32,
        height: int,
        width: int,
        down_first: bool,
    ) -> NDArray[np.uint8]:
        """Resize rows of pixels."""

    def reduced_grey(self, rows: NDArray[np.uint8], across: int, down: int) -> NDArray[np.uint8]:
        """Average blocks of pixels, and convert to grey."""

    def copied(self, view: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Copy a turned or mirrored view of pixels."""


def _always_across_first(source: Size, target: Size) -> bool:
    return False


def _steep_ones_down_first(source: Size, target: Size) -> bool:
    return source[1] - target[1] > max(0, 2 * (source[0] - target[0]))


_ORDERS = (_steep_ones_down_first, _always_across_first)  # Pillow 13's, and that of those before


@dataclass(frozen=True, slots=True)
class Kernels:
    """Pillow's work on rows of pixels.

    Attributes
    ----------
    routines
        The compiled module.
    down_first
        Whether the installed Pillow resizes columns before rows, from one size to another; pixels
        are rounded in between.
    """

    routines: Routines
    down_first: Callable[[Size, Size], bool]

    def resized(self, pixels: NDArray[np.uint8], size: Size, box: Box) -> NDArray[np.uint8]:
        """Resize as ``Image.resize(size, BICUBIC, box)`` does.

        Parameters
        ----------
        pixels
            uint8 (height, width, 3), C-contiguous.

        Returns
        -------
        ndarray
            uint8 of shape (height, width, 3) by `size`.
        """
        height, width = pixels.shape[:2]
        down_first = self.down_first((width, height), size)
        left, top, right, bottom = map(np.float32, box)
        resized = self.routines.resize(
            pixels.reshape(height, -1), left, top, right, bottom, size[1], size[0], down_first
        )
        return resized.reshape(size[1], size[0], 3)

    def reduced_grey(self, pixels: NDArray[np.uint8], block: Size) -> NDArray[np.uint8]:
        """Average and convert as ``Image.reduce(block).convert("L")`` does; uint8, two axes."""
        return self.routines.reduced_grey(pixels.reshape(len(pixels), -1), *block)

    def copied(self, view: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Copy a turned or mirrored view, (height, width, 3), to a C-contiguous array."""
        return self.routines.copied(view)


class Loader:
    """Loads something in a thread of its own, once it was asked for often enough.

    Parameters
    ----------
    load
        Returns what is wanted, or None where it is not to be had; called once at most.
    after
        How often it is asked for until then.
    """

    def __init__(self, load: Callable[[], Kernels | None], after: int) -> None:
        self._load = load
        self._left = after
        self._lock = threading.Lock()
        self._loaded: Kernels | None = None

    def __call__(self) -> Kernels | None:
        """Return what was loaded; None as long as it is not."""
        if self._left > 0:
            self._count()
        return self._loaded

    def _count(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                # Not a daemon: the interpreter must not go away beneath a compiler at work.
                threading.Thread(target=self._run, name="kernels").start()

    def _run(self) -> None:
        self._loaded = self._load()


def load_kernels() -> Kernels | None:
    """Import and compile the kernels; None without numba, or where they differ from Pillow."""
    try:
        from pipeline.images import kernels

        candidates = [Kernels(kernels, order) for order in _ORDERS]
        return next((each for each in candidates if same_as_pillow(each)), None)
    except Exception:
        # No numba, one that does not go with this NumPy, no folder to keep code in, a damaged file
        # in it: none of it is worth stopping a run for, as Pillow does the same work.
        return None


ready = Loader(load_kernels, WORTHWHILE)
"""Ask for the kernels, once an image."""


def same_as_pillow(kernels: Kernels) -> bool:
    """Whether kernels give the pixels of the installed Pillow for a few probes."""
    rng = np.random.default_rng(0)
    return all(
        _same(kernels, rng.integers(0, 256, (height, width, 3), dtype=np.uint8), size)
        for height, width, size in _PROBES
    )


# Larger and smaller, on one axis and on both, flat and steep, sizes that are no multiples.
_PROBES = (
    (37, 53, (16, 16)),
    (53, 37, (16, 16)),
    (150, 23, (24, 31)),
    (23, 150, (31, 24)),
    (19, 11, (40, 57)),
    (90, 60, (60, 20)),
    (97, 211, (211, 97)),
    (1, 1, (3, 2)),
)


def _same(kernels: Kernels, pixels: NDArray[np.uint8], size: Size) -> bool:
    image = Image.fromarray(pixels)
    width, height = image.size
    boxes = [(0, 0, width, height), (width / 7, height / 9, width / 1.3, height / 1.1)]
    resized = all(
        np.array_equal(
            kernels.resized(pixels, size, box),
            np.asarray(image.resize(size, Image.Resampling.BICUBIC, box=box)),
        )
        for box in boxes
    )
    blocks = [(1, 1), (min(width, 2), min(height, 3)), (min(width, 5), min(height, 4))]
    return resized and all(
        np.array_equal(
            kernels.reduced_grey(pixels, block),
            np.asarray(image.reduce(block).convert("L")),
        )
        for block in blocks
    )
