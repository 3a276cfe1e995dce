"""Put a file into a folder so that it is there whole or not at all, and stays there.

The steps of `commit`, each of which the promises of the store rest on:

1. create ``tmp/<host>-<pid>-<uuid>`` exclusively and let the caller fill it
2. read it back through the same descriptor and hash it, fsync it (both at the same time: each
   must succeed before the next step, and neither changes the file), close it
3. link it to its final name, which cannot overwrite. What has that name already is hashed: the
   same content is fine, anything else goes to ``quarantine/`` and the new file takes its place
4. fsync the folder; only now is the file kept
5. unlink the temporary

Names are free or taken by one call of the system each, so this needs no lock, but for what is in
the way or found bad: a judgement and the move that follows are two calls, and a good file may come
in between. Whoever moves or replaces a bad file is `alone` in doing so.

All of it runs in a thread of its own, as signal handlers run in the main thread only: Ctrl-C cannot
tear a call of HDF5 or leave a descriptor half closed. It is raised when the commit is through.

Whatever fails on the way removes the temporary and is raised. An fsync is never tried again: after
a failed one the kernel may have dropped the pages and call the next one a success. Interrupted
calls (EINTR) are resumed by Python itself (PEP 475). Where the filesystem has no hard links, step 3
renames instead: as names are digests of contents, the only files this can replace are an equal one
and a damaged one.
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import fcntl
import hashlib
import os
import platform
import re
import stat
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from cache.errors import CacheError, ShardError

CHUNK = 1 << 20
_LARGEST_HOLLOW = 256 << 20
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK}
_NO_FOLDER_FSYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF}
# What the process or the machine is short of now; it says nothing of the file.
_SHORT_OF = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EINTR, errno.EAGAIN}

Read = TypeVar("Read")


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a regular file for reading; follow no link, wait for no FIFO, and close it in the end.

    What is no regular file is not even opened: for a device that runs its driver.

    Raises
    ------
    ShardError
        It is not a regular file.
    OSError
        It cannot be opened.
    """
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise ShardError("not a regular file")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise ShardError("not a regular file") from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ShardError("not a regular file")
        yield fd
    finally:
        with contextlib.suppress(OSError):  # nothing was written that closing could lose
            os.close(fd)


def twice(path: Path, read: Callable[[], Read]) -> Read:
    """Do what reads a file, and once more if that fails: one error may be a passing one.

    Raises
    ------
    CacheError
        The system is short of something, which is no verdict on the file.
    OSError
        It failed both times, or the file is not there.
    """
    try:
        return read()
    except FileNotFoundError:
        raise
    except OSError:
        pass
    try:
        return read()
    except OSError as error:
        if error.errno in _SHORT_OF:
            raise CacheError(
                f"cannot read {path} now: {error.strerror}. Nothing is known to be wrong with the "
                "file; close other programs or raise the limit (ulimit -n) and run again"
            ) from error
        raise


def read_at(fd: int, start: int, size: int) -> bytearray:
    """Read ``size`` bytes from ``start`` on; fewer where the file ends before."""
    data = bytearray(size)
    view = memoryview(data)
    done = 0
    while done < size and (count := os.preadv(fd, [view[done:]], start + done)):
        done += count
    view.release()
    del data[done:]
    return data


def write_at(fd: int, data: bytes | memoryview, start: int) -> None:
    """Write all of ``data`` from ``start`` on, however short the single writes are."""
    view = memoryview(data).cast("B")
    done = 0
    while done < len(view):
        done += os.pwrite(fd, view[done:], start + done)


def is_hollow(found: os.stat_result) -> bool:
    """Whether a file is large and nearly all of it a hole: reading it takes time out of nothing."""
    return found.st_size > _LARGEST_HOLLOW and found.st_size > 64 * 512 * found.st_blocks


def sha256_of(fd: int) -> str:
    """SHA-256 of a whole file as it reads now, 64 hex digits."""
    digest = hashlib.sha256()
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    position = 0
    while count := os.preadv(fd, [view], position):
        digest.update(view[:count])
        position += count
    return digest.hexdigest()


def fsync_found(fd: int) -> None:
    """Make what was just read from a file durable: nobody may have synced what others copied in.

    Raises
    ------
    OSError
        It may not be on the disk. (On a filesystem that nobody can write to, it is.)
    """
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_FSYNC | {errno.EROFS}:
            raise


@contextmanager
def alone(quarantine: Path) -> Iterator[None]:
    """Wait until nobody else moves or replaces bad files here, and keep others from it.

    On filesystems without locks it does not; the steps are in an order that then leaves a window of
    one call only.
    """
    fd = os.open(quarantine, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        with contextlib.suppress(OSError):
            # A child that was forked meanwhile has the descriptor too and would keep the lock.
            fcntl.flock(fd, fcntl.LOCK_UN)
        with contextlib.suppress(OSError):
            os.close(fd)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the filesystem can do that for folders."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_FSYNC:
            raise
    finally:
        os.close(fd)


def anchor(folder: Path) -> None:
    """Make the names of a folder and of the folders above it durable, up to the mount point.

    Another process may have created any of them a moment ago and not got to its own fsync.
    """
    device = folder.stat().st_dev
    for above in folder.absolute().parents:
        if above.stat().st_dev != device:
            break
        with contextlib.suppress(PermissionError):
            fsync_folder(above)


def unique_name() -> str:
    """``<host>-<pid>-<uuid>``, a file name that nobody else comes up with."""
    host = re.sub(r"[^A-Za-z0-9.]", "_", platform.node())[:64] or "host"
    return f"{host}-{os.getpid()}-{uuid.uuid4().hex}"


def commit(
    tmp: Path,
    folder: Path,
    quarantine: Path | None,
    fill: Callable[[int], None],
    name: Callable[[str], str],
) -> Path:
    """Commit one file durably; returns once it is kept.

    Parameters
    ----------
    tmp, folder, quarantine
        Folders on one filesystem: for the temporary, for the file, for what is in its way. Without
        a quarantine, a file that has the name already stays.
    fill
        Writes the content through the descriptor it is given (open for reading and writing).
    name
        Final name from the content's SHA-256 (64 hex digits).

    Raises
    ------
    CacheError
        Any failure of the system; the temporary is gone and nothing was kept.
    """
    return _apart(lambda: _commit(tmp, folder, quarantine, fill, name))


def _apart(work: Callable[[], Path]) -> Path:
    """Do work in a thread of its own and wait until it is through, Ctrl-C or not.

    The thread is a bare one: a `threading.Thread` and an executor leave weak references to clean
    up, and a Ctrl-C that comes during such a callback is lost.
    """
    outcome: list[Path | BaseException] = []
    through = threading.Event()

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error)
        finally:
            through.set()

    _thread.start_new_thread(run, ())
    try:
        through.wait()
    except BaseException:
        through.wait()
        raise
    (result,) = outcome
    if isinstance(result, BaseException):
        raise result
    return result


def _commit(
    tmp: Path,
    folder: Path,
    quarantine: Path | None,
    fill: Callable[[int], None],
    name: Callable[[str], str],
) -> Path:
    temporary = tmp / unique_name()
    try:
        try:
            digest = _written(temporary, fill)
            final = folder / name(digest)
            _publish(temporary, final, digest, quarantine)
            fsync_folder(folder)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
    except (OSError, RuntimeError) as error:  # RuntimeError: no thread can be started
        raise CacheError(
            f"cannot keep a new file in {folder}: {getattr(error, 'strerror', None) or error}; "
            "what was kept before is untouched. Free some space or mend the disk and run again"
        ) from error
    return final


def put_aside(path: Path, quarantine: Path) -> Path:
    """Move whatever has this name into the quarantine, under a name of its own; return that."""
    aside = quarantine / f"{path.name}.{uuid.uuid4().hex[:8]}"
    path.rename(aside)
    return aside


def _written(temporary: Path, fill: Callable[[int], None]) -> str:
    """Do steps 1 and 2; return the SHA-256 of what was read back."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o666)
    try:
        fill(fd)
        with ThreadPoolExecutor(1) as pool:
            synced = pool.submit(os.fsync, fd)
            digest = sha256_of(fd)
            synced.result()
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise
    os.close(fd)
    return digest


def _publish(temporary: Path, final: Path, digest: str, quarantine: Path | None) -> None:
    """Do step 3."""
    try:
        os.link(temporary, final, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS | {errno.EEXIST}:
            raise
        judged = _inode(final)
        if judged is None:
            temporary.replace(final)
        elif not _kept_already(final, digest) and quarantine is not None:
            _replace(temporary, final, digest, quarantine, judged)


def _replace(temporary: Path, final: Path, digest: str, quarantine: Path, judged: int) -> None:
    """Quarantine what is at ``final`` and put the new file there.

    First a second name, then a rename over the first: at no moment is a good file that another
    process may just have put there without its name. What was judged (its inode) is not judged
    again: if it was an fsync that failed, the next one could succeed without having written.
    """
    aside = quarantine / f"{final.name}.{uuid.uuid4().hex[:8]}"
    with alone(quarantine):
        # Another process may just have done the same.
        if _inode(final) not in (None, judged) and _kept_already(final, digest):
            return
        try:
            os.link(final, aside, follow_symlinks=False)
        except OSError:  # no hard links here, or a folder, which can be neither linked nor replaced
            with contextlib.suppress(FileNotFoundError):  # another process just moved it
                put_aside(final, quarantine)
        temporary.replace(final)


def _inode(path: Path) -> int | None:
    """Inode of what has this name; None where nothing has."""
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return None


def _kept_already(final: Path, digest: str) -> bool:
    """Whether the file of that name has that content; if so, its bytes are durable on return."""
    try:
        with opened(final) as fd:
            if sha256_of(fd) != digest:
                return False
            fsync_found(fd)
            return True
    except (ShardError, OSError):  # unreadable as well: the new file is as good and can be read
        return False
