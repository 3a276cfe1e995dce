"""Decode images in worker threads, a bounded number of batches ahead of whoever consumes them."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.images.augment import Policy
from pipeline.images.decode import Decoded, Resize, Undecodable, decode_all, decode_views
from pipeline.images.hashing import read_image

Source: TypeAlias = Path | bytes
"""An image as a file or as the bytes that a file would hold."""

BATCHES_AHEAD = 3

_Result: TypeAlias = tuple[tuple[Decoded, ...], ...] | Undecodable


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """Which views of each source are wanted; in this order they are numbered through.

    Attributes
    ----------
    policy
        What is done for a view.
    first
        int64 ``(n + 1,)``: the views of source i are those from ``first[i]`` to ``first[i + 1]``.
    views
        uint32 ``(first[n],)``: 0 for the plain picture.
    """

    policy: Policy
    first: NDArray[np.int64]
    views: NDArray[np.uint32]

    @classmethod
    def all_of(cls, policy: Policy, sources: int, views: int) -> ViewPlan:
        """Want the plain picture and the views below number `views` of every source."""
        first = np.arange(sources + 1, dtype=np.int64) * views
        return cls(policy, first, np.tile(np.arange(views, dtype=np.uint32), sources))

    def of(self, source: int) -> range:
        """Return the positions of a source's views."""
        return range(int(self.first[source]), int(self.first[source + 1]))


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """What became of one run of sources.

    Attributes
    ----------
    positions
        Positions of the images that could be decoded, ascending; with a `ViewPlan`, of their views.
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
    views: ViewPlan | None = None,
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
    views
        Which views are made of each source; None for the plain picture alone.
    """
    starts = iter(range(0, len(sources), batch_size))
    pending: deque[list[tuple[range, Future[_Result]]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:

        def submit(start: int) -> None:
            here = range(start, min(start + batch_size, len(sources)))
            names = [None if keys is None else keys[i].tobytes() for i in here]
            pending.append(
                [
                    (
                        range(i, i + 1) if views is None else views.of(i),
                        pool.submit(_decode_source, sources[i], key, resizes, i, views),
                    )
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


def _collect(batch: list[tuple[range, Future[_Result]]]) -> DecodedBatch:
    results = [(positions, future.result()) for positions, future in batch]
    decoded = [(own, result) for own, result in results if isinstance(result, tuple)]
    return DecodedBatch(
        positions=tuple(i for own, _ in decoded for i in own),
        images=tuple(images for _, views in decoded for images in views),
        failures=tuple(
            (i, result) for own, result in results if isinstance(result, Undecodable) for i in own
        ),
    )


def _decode_source(
    source: Source,
    key: bytes | None,
    resizes: Sequence[Resize],
    number: int,
    views: ViewPlan | None,
) -> _Result:
    """Decode one source, or say why that is not possible."""
    try:
        data = source if isinstance(source, bytes) else read_image(source, key)
        if views is None:
            return (decode_all(data, resizes),)
        key = key or hashlib.sha256(data).digest()
        wanted = views.views[list(views.of(number))].tolist()
        return decode_views(data, resizes, [views.policy.look(key, view) for view in wanted])
    except Undecodable as error:
        # Not the error itself, which holds on to the frames it passed, and so to the file's bytes.
        return type(error)(*error.args)
