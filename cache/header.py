r"""The fixed header of a shard: 4096 bytes in HDF5's user block, little-endian. Pure functions.

======  =====  ==============================================================================
offset  bytes  what
======  =====  ==============================================================================
0       8      magic, ``89 48 53 54 0D 0A 1A 0A`` (``\x89HST\r\n\x1a\n``)
8       2      u16, version of the format: 1
10      2      u16, dtype of ``features``: 1 float32, 2 float16, 3 uint8
12      4      zero
16      8      u64, rows (at least 1)
24      8      u64, dims: numbers in a row of ``features`` (at least 1)
32      8      u64, offset in the file of ``features``: rows x dims, row after row
40      8      u64, offset of ``key``: rows x 32 bytes, the SHA-256 of the image file
48      8      u64, offset of ``view``: rows x u32, 0 for the plain image
56      8      u64, offset of ``crc``: rows x u32, see `cache.shard.row_crcs`
64      8      u64, length of the whole file
72      32     SHA-256 of the recipe's canonical JSON
104     32     SHA-256 of everything from 4096 to the end that is in none of the four datasets
               (HDF5's own structures and the gaps between them), in the file's order
136     3928   zero
4064    32     SHA-256 of bytes 0 to 4063
======  =====  ==============================================================================

Every offset is a multiple of 4096 and at least 4096; datasets do not overlap and end within the
file. Magic, version and checksum keep their places in later versions, so that a newer file can be
told from a damaged one.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from cache.errors import ShardError
from cache.recipe import StorageDtype

BLOCK = 4096
VERSION = 1
MAGIC = b"\x89HST\r\n\x1a\n"
KEY_BYTES = 32

# What HDF5 needs besides the rows is some 30 KiB; far more is not of our making, and hashing it
# would make opening a hostile file slow.
MAX_REST = 1 << 20
# Checking reads whole rows into memory; the widest feature maps flattened have some megabytes.
MAX_ROW = 1 << 26

_FIELDS = struct.Struct("<8sHH4x7Q32s32s")
_CHECKSUM_AT = BLOCK - 32
_CODES: dict[StorageDtype, int] = {"float32": 1, "float16": 2, "uint8": 3}
_DTYPES: dict[int, StorageDtype] = {code: name for name, code in _CODES.items()}
ITEM_BYTES: dict[StorageDtype, int] = {"float32": 4, "float16": 2, "uint8": 1}


@dataclass(frozen=True, slots=True)
class Header:
    """Where the arrays of a shard lie and what they belong to; see the module for each field."""

    dtype: StorageDtype
    rows: int
    dims: int
    features_at: int
    key_at: int
    view_at: int
    crc_at: int
    length: int
    recipe: bytes
    rest: bytes

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of ``features``."""
        return self.dims * ITEM_BYTES[self.dtype]

    @property
    def extents(self) -> tuple[tuple[int, int], ...]:
        """(first byte, byte after the last) of the four datasets, in the file's order."""
        starts_and_sizes = (
            (self.features_at, self.row_bytes),
            (self.key_at, KEY_BYTES),
            (self.view_at, 4),
            (self.crc_at, 4),
        )
        return tuple(sorted((at, at + self.rows * size) for at, size in starts_and_sizes))

    @property
    def rest_extents(self) -> tuple[tuple[int, int], ...]:
        """(first byte, byte after the last) of what is neither header nor row data, in order."""
        edges = [BLOCK, *(edge for extent in self.extents for edge in extent), self.length]
        return tuple(zip(edges[::2], edges[1::2], strict=True))


def pack(header: Header) -> bytes:
    """Return the user block, 4096 bytes.

    Raises
    ------
    ShardError
        A number does not fit its field.
    """
    try:
        fields = _FIELDS.pack(
            MAGIC,
            VERSION,
            _CODES[header.dtype],
            header.rows,
            header.dims,
            header.features_at,
            header.key_at,
            header.view_at,
            header.crc_at,
            header.length,
            header.recipe,
            header.rest,
        )
    except struct.error as error:
        raise ShardError(f"header out of range: {error}") from error
    body = fields.ljust(_CHECKSUM_AT, b"\0")
    return body + hashlib.sha256(body).digest()


def parse(block: bytes) -> Header:
    """Read a user block back; what `pack` did not write is refused.

    Raises
    ------
    ShardError
        Not a shard, damaged, or written by a newer version.
    """
    if len(block) != BLOCK:
        raise ShardError(f"cut off: the header has {len(block)} of {BLOCK} bytes")
    if not block.startswith(MAGIC):
        raise ShardError("not a shard: the first bytes are not those of one")
    if hashlib.sha256(block[:_CHECKSUM_AT]).digest() != block[_CHECKSUM_AT:]:
        raise ShardError("damaged: the header does not match its checksum")
    _, version, code, *others = _FIELDS.unpack_from(block)
    if version != VERSION:
        raise ShardError(
            f"written in format {version}, while this version of Headstart reads format {VERSION}; "
            "use the newer version of Headstart"
        )
    if code not in _DTYPES:
        raise ShardError(f"dtype code {code} is none of {sorted(_DTYPES)}")
    header = Header(_DTYPES[code], *others)
    if pack(header) != block:
        raise ShardError("reserved bytes of the header are in use")
    return header


def check(header: Header, size: int) -> None:
    """Refuse a header whose datasets do not lie within a file of ``size`` bytes, apart and aligned.

    Raises
    ------
    ShardError
        Says which rule is broken.
    """
    if header.length != size:
        raise ShardError(f"cut off or grown: {size} bytes, the header says {header.length}")
    if header.rows < 1 or header.dims < 1:
        raise ShardError(f"{header.rows} rows of {header.dims} numbers: a shard holds some")
    if header.row_bytes > MAX_ROW:
        raise ShardError(f"rows of {header.row_bytes} bytes, {MAX_ROW} at most")
    extents = header.extents
    if any(start % BLOCK for start, _ in extents):
        raise ShardError(f"a dataset does not begin at a multiple of {BLOCK}")
    # Sizes of the rest are negative where a dataset begins before the header or its predecessor
    # ends, or ends after the file does. Python's integers do not overflow.
    rest = [stop - start for start, stop in header.rest_extents]
    if min(rest) < 0:
        raise ShardError("datasets overlap or lie outside the file")
    if sum(rest) > MAX_REST:
        raise ShardError(f"{sum(rest)} bytes belong to no dataset: not written by Headstart")
