"""Damage to one shard, region by region: a byte picked anywhere in the file is mostly padding."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from cache.header import BLOCK, Header, parse
from cache.shard import State


def regions(header: Header) -> dict[str, list[tuple[int, int]]]:
    """Where the parts of a shard lie: (first byte, byte after the last)."""
    rows = header.rows
    structures, *padding = [(a, b) for a, b in header.rest_extents if b > a]
    return {
        "header": [(0, 136), (BLOCK - 32, BLOCK)],
        "header padding": [(136, BLOCK - 32)],
        "features": [(header.features_at, header.features_at + rows * header.row_bytes)],
        "key": [(header.key_at, header.key_at + rows * 32)],
        "view": [(header.view_at, header.view_at + rows * 4)],
        "crc": [(header.crc_at, header.crc_at + rows * 4)],
        # HDF5 writes the object headers first; behind the datasets lie padding and more of them.
        "HDF5": [structures],
        "HDF5 and padding": padding or [structures],
    }


REGIONS = ("HDF5", "HDF5 and padding", "crc", "features", "header", "header padding", "key", "view")
OF_ROWS = ("crc", "features", "key", "view")
"""What no check but that of every byte finds."""


def place(data: bytes, region: str, random: random.Random) -> int:
    """Pick a byte of a region of a good shard."""
    low, high = random.choice(regions(parse(data[:BLOCK]))[region])
    return random.randrange(low, high)


def flipped(data: bytes, region: str, random: random.Random) -> bytes:
    """Return a good shard with one bit of a region flipped."""
    new = bytearray(data)
    new[place(data, region, random)] ^= 1 << random.randrange(8)
    return bytes(new)


def damage(path: Path, region: str, random: random.Random) -> None:
    """Flip one bit in a region of a good shard on disk."""
    put(path, flipped(path.read_bytes(), region, random), random)


def put(path: Path, data: bytes, random: random.Random) -> None:
    """Put bytes where a shard was, in place or as a new file, with or without its old time."""
    before = path.lstat()
    if random.random() < 0.5:
        with path.open("r+b") as file:
            file.write(data)
            file.truncate()
    else:
        path.unlink()
        path.write_bytes(data)
    while True:
        if random.random() < 0.5:
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        else:
            os.utime(path)
        if State.of(path.lstat()) != State.of(before):
            return
        time.sleep(0.001)  # the clock of the filesystem has not moved; see the design page
