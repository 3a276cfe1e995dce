"""An image's key is the SHA-256 of its file's bytes; files that did not change are not read."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cache import FileIndex
from pipeline.events import FilesHashed, HashingPlanned, Observer, ignore
from pipeline.images.formats import Transient
from pipeline.images.rejects import Reject

_CHUNK = 1 << 20
_SLICE = 4096  # files handed to the pool at once, as each that waits there costs 2.5 KB
_TOLD = 100  # files between two events
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

_Read: TypeAlias = tuple[bytes, os.stat_result, int] | Reject  # digest, file, when looked at


def hash_files(
    paths: Sequence[Path], index: FileIndex, observe: Observer = ignore
) -> list[bytes | Reject]:
    """Return the key of each file, reading only those that the index does not know.

    Parameters
    ----------
    paths
        Files; one that stands there twice is read once.
    index
        Where digests are remembered, by absolute path. New ones are put as they come, so that a
        caller that saves it whatever happens keeps them after Ctrl-C too.
    observe
        Told how many files are read, and of each hundred.

    Returns
    -------
    list
        Aligned with ``paths``: 32 bytes, or a `Reject` where the file cannot be read, is empty,
        or changed while it was read.
    """
    here = os.fsencode(Path.cwd())
    results: dict[bytes, bytes | Reject] = {}
    unknown: dict[bytes, Path] = {}
    names = [os.path.join(here, os.fsencode(path)) for path in paths]  # noqa: PTH118 - bytes
    for name, path in zip(names, paths, strict=True):
        if name in results or name in unknown:
            continue
        try:
            status = os.stat(name)  # noqa: PTH116 - bytes, 100 000 times
        except OSError as error:
            results[name] = Reject(path, None, _why(error))
            continue
        key = index.get(name, status) if stat.S_ISREG(status.st_mode) else None
        if key is None:
            unknown[name] = path
        else:
            results[name] = key
    for name, read in _observed(_read_all(unknown), len(unknown), observe):
        if isinstance(read, Reject):
            results[name] = read
        else:
            digest, status, scanned_ns = read
            index.put(name, status, digest, scanned_ns)
            results[name] = digest
    return [results[name] for name in names]


def _observed(
    results: Iterator[tuple[bytes, _Read]], count: int, observe: Observer
) -> Iterator[tuple[bytes, _Read]]:
    if count:
        observe(HashingPlanned(count))
    for done, result in enumerate(results, 1):
        yield result
        if done % _TOLD == 0 or done == count:
            observe(FilesHashed((done - 1) % _TOLD + 1))


def with_keys(rejects: Sequence[Reject], index: FileIndex) -> tuple[Reject, ...]:
    """Give rejects the key of their file where it can be read after all, and has none yet."""
    lacking = [i for i, reject in enumerate(rejects) if reject.key is None]
    result = list(rejects)
    for i, read in zip(lacking, hash_files([rejects[i].path for i in lacking], index), strict=True):
        result[i] = replace(rejects[i], key=read.key if isinstance(read, Reject) else read)
    return tuple(result)


def distinct(keys: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find out which keys are equal.

    Parameters
    ----------
    keys
        uint8 of shape (n, 32).

    Returns
    -------
    first, number
        int64 of shape (m,), ascending: where each of the m distinct keys stands first; and int64
        of shape (n,): a number from 0 to m - 1 that equal keys share.
    """
    first, number = in_key_order(keys)
    return np.sort(first), number


def in_key_order(keys: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Do what `distinct` does, with `first` in the order of the keys, which `number` counts in.

    So neither depends on the order in which images come.
    """
    whole = np.ascontiguousarray(keys).view(f"V{keys.shape[1]}").ravel()
    _, first, number = np.unique(whole, return_index=True, return_inverse=True)
    return first.astype(np.int64), number.astype(np.int64)


def read_image(path: Path, key: bytes | None) -> bytes:
    """Read a file, and check that its bytes are those of the key (None checks nothing).

    Raises
    ------
    Transient
        The file cannot be read, or its bytes are no longer those of the key.
    """
    try:
        handle = os.open(path, _FLAGS)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise Transient("is not a regular file")
            data = file.read()
    except OSError as error:
        raise Transient(_why(error)) from error
    except MemoryError:
        raise Transient("needs more memory than there is") from None
    if key is not None and hashlib.sha256(data).digest() != key:
        raise Transient("changed since it was hashed; run again")
    return data


def _read_all(files: Mapping[bytes, Path]) -> Iterator[tuple[bytes, _Read]]:
    """Hash files in threads, as many as suit disks and cores, and yield results in order."""
    left = iter(files.items())
    pool = ThreadPoolExecutor(min(8, 2 + (os.cpu_count() or 1)), "hash")
    try:
        while some := dict(islice(left, _SLICE)):
            yield from zip(some, pool.map(_hash, some.values()), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C shall not wait for all the files


def _hash(path: Path) -> _Read:
    scanned_ns = time.time_ns()
    try:
        handle = os.open(path, _FLAGS)
    except OSError as error:
        return Reject(path, None, _why(error))
    try:
        before = os.fstat(handle)
        if not stat.S_ISREG(before.st_mode):
            return Reject(path, None, "is not a regular file")
        digest = hashlib.sha256()
        while chunk := os.read(handle, _CHUNK):
            digest.update(chunk)
        after = os.fstat(handle)
    except OSError as error:
        return Reject(path, None, _why(error))
    finally:
        os.close(handle)
    if after.st_size == 0:
        return Reject(path, digest.digest(), "is empty")
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return Reject(path, None, "changed while it was read")
    return digest.digest(), before, scanned_ns


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "is not there"
    return f"cannot be read: {error.strerror or error}"
