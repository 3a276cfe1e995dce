"""What is not exactly a header of ours is refused."""

import dataclasses
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache import ShardError
from cache.header import BLOCK, ITEM_BYTES, MAX_ROW, Header, check, pack, parse


def blocks(size: int) -> int:
    return -(-size // BLOCK)


@st.composite
def headers(draw: st.DrawFn) -> Header:
    dtype = draw(st.sampled_from(sorted(ITEM_BYTES)))
    rows, dims = draw(st.integers(1, 10_000)), draw(st.integers(1, 10_000))
    sizes = {
        "features_at": rows * dims * ITEM_BYTES[dtype],
        "key_at": rows * 32,
        "view_at": rows * 4,
        "crc_at": rows * 4,
    }
    at, places, end = 1, {}, 0
    for name in draw(st.permutations(sorted(sizes))):
        at += draw(st.integers(0, 3))
        places[name], end = at * BLOCK, at * BLOCK + sizes[name]
        at += blocks(sizes[name])
    digests = st.binary(min_size=32, max_size=32)
    return Header(
        dtype=dtype,
        rows=rows,
        dims=dims,
        length=end + draw(st.integers(0, 100)),
        recipe=draw(digests),
        rest=draw(digests),
        **places,
    )


@given(headers())
def test_a_header_survives_the_round_trip(header):
    block = pack(header)
    assert len(block) == BLOCK
    assert parse(block) == header
    check(header, header.length)


@given(headers(), st.integers(0, BLOCK * 8 - 1))
def test_any_flipped_bit_is_refused(header, bit):
    block = bytearray(pack(header))
    block[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ShardError):
        parse(bytes(block))


@given(headers(), st.integers(0, BLOCK - 1))
def test_any_truncation_is_refused(header, length):
    with pytest.raises(ShardError):
        parse(pack(header)[:length])


@given(st.binary(max_size=BLOCK))
def test_no_other_bytes_are_a_header(data):
    with pytest.raises(ShardError):
        parse(data.ljust(BLOCK, b"\0"))


@given(headers(), st.integers(-(10**6), 10**6).filter(bool))
def test_a_file_of_another_length_is_refused(header, off):
    with pytest.raises(ShardError, match="cut off or grown"):
        check(header, header.length + off)


offsets = st.sampled_from(["features_at", "key_at", "view_at", "crc_at"])


@given(headers(), offsets, offsets)
def test_overlapping_datasets_are_refused_with_a_right_checksum(header, one, other):
    if one == other:
        return
    header = dataclasses.replace(header, **{one: getattr(header, other)})
    with pytest.raises(ShardError, match="overlap"):
        check(parse(pack(header)), header.length)


@given(headers(), offsets, st.integers(0, 2**64 - 1))
def test_an_offset_beyond_the_file_or_in_the_header_is_refused(header, name, offset):
    offset = 0 if offset % 5 == 0 else blocks(max(offset % 2**63, header.length)) * BLOCK
    header = dataclasses.replace(header, **{name: offset})
    with pytest.raises(ShardError):
        check(parse(pack(header)), header.length)


@given(headers(), offsets, st.integers(1, BLOCK - 1))
def test_an_offset_off_the_grid_is_refused(header, name, off):
    header = dataclasses.replace(header, **{name: getattr(header, name) + off})
    with pytest.raises(ShardError, match="multiple"):
        check(parse(pack(header)), header.length)


@given(headers(), st.sampled_from(["rows", "dims"]), st.integers(10**9, 2**64 - 1))
def test_counts_that_overflow_are_refused(header, name, count):
    header = dataclasses.replace(header, **{name: count})
    with pytest.raises(ShardError):
        check(parse(pack(header)), header.length)


@pytest.mark.parametrize("name", ["rows", "dims"])
@given(header=headers())
def test_no_rows_or_no_dims_are_refused(header, name):
    with pytest.raises(ShardError, match="holds some"):
        check(dataclasses.replace(header, **{name: 0}), header.length)


@given(headers())
def test_rows_of_absurd_width_and_padding_without_end_are_refused(header):
    wide = dataclasses.replace(header, dims=MAX_ROW + 1)
    with pytest.raises(ShardError, match="at most"):
        check(wide, wide.length)
    long = dataclasses.replace(header, length=header.length + (1 << 40))
    with pytest.raises(ShardError, match="no dataset"):
        check(long, long.length)


@given(headers(), st.integers(2, 2**16 - 1))
def test_a_newer_version_is_told_from_damage(header, version):
    body = bytearray(pack(header)[:-32])
    body[8:10] = version.to_bytes(2, "little")
    with pytest.raises(ShardError, match="newer version"):
        parse(bytes(body) + hashlib.sha256(body).digest())


@given(headers(), st.integers(136, BLOCK - 33))
def test_reserved_bytes_in_use_are_refused_with_a_right_checksum(header, at):
    body = bytearray(pack(header)[:-32])
    body[at] = 1
    with pytest.raises(ShardError, match="reserved"):
        parse(bytes(body) + hashlib.sha256(body).digest())


def test_numbers_that_do_not_fit_are_not_packed():
    with pytest.raises(ShardError, match="out of range"):
        pack(Header("uint8", 2**64, 1, 0, 0, 0, 0, 0, b"", b""))
