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

from pipeline.images.decode import Decoded, Resize, Undecodable, decode
from pipeline.images.hashing import read_image

Source: TypeAlias = Path | bytes
"""An image as a file or as the bytes that a file would hold."""

BATCHES_AHEAD = 3


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """What became of one run of sources.

    Attributes
    ----------
    positions
        Positions of the images that could be decoded, ascending.
    images
        What decoding each of them gave, in the same order.
    failures
        ``(position, error)`` of those that could not.
    """

    positions: tuple[int, ...]
    images: tuple[Decoded, ...]
    failures: tuple[tuple[int, Undecodable], ...]

    def pixels(self) -> NDArray[np.uint8]:
        """Stack the resized pixels: uint8 ``(n, height, width, 3)``; n must not be zero."""
        return np.stack([image.pixels for image in self.images])


def decoded_batches(
    sources: Sequence[Source],
    keys: Sequence[bytes] | None,
    resize: Resize,
    *,
    batch_size: int,
    workers: int,
) -> Generator[DecodedBatch]:
    """Decode `sources` in order, `batch_size` at a time.

    At most ``BATCHES_AHEAD + 1`` batches are in memory, however many sources there are. Pillow
    gives up the interpreter's lock while it decodes, so threads are enough.

    Parameters
    ----------
    sources
        Files or bytes.
    keys
        The SHA-256 digests that the sources are known by; a file whose bytes no longer have its
        digest is a failure, so that no row is kept under another image's key. None checks nothing.
    """
    starts = iter(range(0, len(sources), batch_size))
    pending: deque[list[tuple[int, Future[Decoded | Undecodable]]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:

        def submit(start: int) -> None:
            stop = min(start + batch_size, len(sources))
            pending.append(
                [
                    (i, pool.submit(_decode_source, sources[i], keys[i] if keys else None, resize))
                    for i in range(start, stop)
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


def _collect(batch: list[tuple[int, Future[Decoded | Undecodable]]]) -> DecodedBatch:
    results = [(position, future.result()) for position, future in batch]
    decoded = [(i, result) for i, result in results if isinstance(result, Decoded)]
    return DecodedBatch(
        positions=tuple(i for i, _ in decoded),
        images=tuple(image for _, image in decoded),
        failures=tuple((i, result) for i, result in results if isinstance(result, Undecodable)),
    )


def _decode_source(source: Source, key: bytes | None, resize: Resize) -> Decoded | Undecodable:
    """Decode one source, or say why that is not possible."""
    try:
        data = source if isinstance(source, bytes) else read_image(source, key)
        return decode(data, resize)
    except Undecodable as error:
        return error
