"""Decode images in worker threads, a bounded number of batches ahead of whoever consumes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.images.decode import Decoded, Resize, Undecodable, decode_all
from pipeline.images.hashing import read_image

Source: TypeAlias = Path | bytes
"""An image as a file or as the bytes that a file would hold."""

BATCHES_AHEAD = 3

_Result: TypeAlias = tuple[Decoded, ...] | Undecodable


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """What became of one run of sources.

    Attributes
    ----------
    positions
        Positions of the images that could be decoded, ascending.
    images
        What decoding each of them gave, in the same order: one `Decoded` a way of resizing.
    failures
        ``(position, error)`` of those that could not.
    """

    positions: tuple[int, ...]
    images: tuple[tuple[Decoded, ...], ...]
    failures: tuple[tuple[int, Undecodable], ...]

    def pixels(self) -> NDArray[np.uint8]:
        """Stack the pixels as first resized: uint8 ``(n, height, width, 3)``; n is not zero."""
        return np.stack([first.pixels for first, *_ in self.images])


def decoded_batches(
    sources: Sequence[Source],
    keys: NDArray[np.uint8] | None,
    resizes: Sequence[Resize],
    *,
    batch_size: int,
    workers: int,
) -> Generator[DecodedBatch]:
    """Decode `sources` in order, `batch_size` at a time, each once.

    At most ``BATCHES_AHEAD + 1`` batches are in memory, however many sources there are. Pillow
    gives up the interpreter's lock while it decodes, so threads are enough.

    Parameters
    ----------
    sources
        Files or bytes.
    keys
        uint8 ``(n, 32)``, the SHA-256 that each source is known by; a file whose bytes no longer
        have it is a failure, so that no row is kept under another image's key. None checks nothing.
    resizes
        The ways from an image to pixels; each image goes all of them.
    """
    starts = iter(range(0, len(sources), batch_size))
    pending: deque[list[tuple[int, Future[_Result]]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:

        def submit(start: int) -> None:
            here = range(start, min(start + batch_size, len(sources)))
            names = [None if keys is None else keys[i].tobytes() for i in here]
            pending.append(
                [
                    (i, pool.submit(_decode_source, sources[i], key, resizes))
                    for i, key in zip(here, names, strict=True)
                ]
            )

        try:
            for _, start in zip(range(BATCHES_AHEAD), starts, strict=False):
                submit(start)
            while pending:
                batch = pending.popleft()
                for start in starts:
                    submit(start)
                    break
                yield _collect(batch)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _collect(batch: list[tuple[int, Future[_Result]]]) -> DecodedBatch:
    results = [(position, future.result()) for position, future in batch]
    decoded = [(i, result) for i, result in results if isinstance(result, tuple)]
    return DecodedBatch(
        positions=tuple(i for i, _ in decoded),
        images=tuple(images for _, images in decoded),
        failures=tuple((i, result) for i, result in results if isinstance(result, Undecodable)),
    )


def _decode_source(source: Source, key: bytes | None, resizes: Sequence[Resize]) -> _Result:
    """Decode one source, or say why that is not possible."""
    try:
        data = source if isinstance(source, bytes) else read_image(source, key)
        return decode_all(data, resizes)
    except Undecodable as error:
        # Not the error itself, which holds on to the frames it passed, and so to the file's bytes.
        return type(error)(*error.args)
