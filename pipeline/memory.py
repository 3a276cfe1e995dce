"""How much memory this process may still take, and how large a batch fits into it."""

from __future__ import annotations

import sys
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")

BYTES_PER_PIXEL = 1024
"""Memory of a pass through a network, per pixel of its input; see `fitting_batch`."""

ASSUMED = 8 << 30
"""Bytes reckoned with where the system does not tell what is left."""


def fitting_batch(wanted: int, size: int, at_hand: int | None) -> int:
    """Return the largest batch of at most `wanted` images whose pass takes half the memory at hand.

    An image is reckoned at `BYTES_PER_PIXEL` for each pixel of the network's input.

    Parameters
    ----------
    wanted
        Images; halved until they fit, never below one.
    size
        Side of the square input in pixels.
    at_hand
        Bytes; None where it is not known, and `wanted` stays.
    """
    while at_hand is not None and wanted > 1 and wanted * size**2 * BYTES_PER_PIXEL > at_hand // 2:
        wanted //= 2
    return wanted


def members_at_once(most: int, each: int, at_hand: int | None) -> int:
    """Return how many networks to train at once: what fits a quarter of the memory at hand.

    The rest is for what they are trained on, in its several forms.

    Parameters
    ----------
    most
        Networks, as many as there are cores; the result is at least one.
    each
        Bytes that one takes.
    at_hand
        Bytes; None where it is not known, and `ASSUMED` stands for it.
    """
    budget = (ASSUMED if at_hand is None else at_hand) // 4
    return max(1, min(most, budget // max(1, each)))


def memory_at_hand() -> int | None:
    """Bytes that may still be taken: of the machine, and of each control group around the process.

    None where the system does not tell (macOS).
    """
    if not sys.platform.startswith("linux"):
        return None
    groups = _read(Path("/proc/self/cgroup"))
    left = [_left_in(folder) for folder in _group_folders(groups)]
    known = [count for count in (available(_read(_MEMINFO)), *left) if count is not None]
    return min(known, default=None)


def available(meminfo: str) -> int | None:
    """Bytes of ``MemAvailable`` in the text of ``/proc/meminfo``; None where it has none."""
    for line in meminfo.splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


def left_in_group(limit: str, usage: str, stat: str) -> int | None:
    """Bytes that a control group may still take.

    Parameters
    ----------
    limit, usage
        Content of ``memory.max`` and ``memory.current``; empty where there is no such file.
    stat
        Content of ``memory.stat``: what it says of file pages is given back when it is needed.

    Returns
    -------
    int or None
        None where there is no limit.
    """
    if not limit.strip().isdigit() or not usage.strip().isdigit():
        return None
    stats = dict(line.split(maxsplit=1) for line in stat.splitlines() if " " in line)
    reclaimable = int(stats.get("inactive_file", 0)) + int(stats.get("active_file", 0))
    return max(0, int(limit) - max(0, int(usage) - reclaimable))


def _group_folders(groups: str) -> list[Path]:
    """Folders of the control group (version 2) of this process and of those around it."""
    for line in groups.splitlines():
        if line.startswith("0::"):
            own = _CGROUPS / line[3:].strip().lstrip("/")
            return [folder for folder in (own, *own.parents) if folder.is_relative_to(_CGROUPS)]
    return []


def _left_in(folder: Path) -> int | None:
    names = ("memory.max", "memory.current", "memory.stat")
    return left_in_group(*(_read(folder / name) for name in names))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
