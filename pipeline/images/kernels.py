"""Pillow's resizing and reducing of 8-bit RGB, bit for bit, compiled by numba.

The one module that imports numba, so nothing but `compiled` may import it. Importing it compiles,
or reads what an earlier process compiled from numba's cache.

What Pillow does (its ``Resample.c`` and ``Reduce.c``) is arithmetic on integers, once the weights
are known, so the order of additions is free. Pixels come and go as rows of bytes, red, green, blue,
red ..., and each loop runs over bytes that lie side by side, which LLVM makes vectors of. For the
pass along the rows, 16 rows at a time are therefore turned into columns, as a matrix is transposed
by two rounds of interleaving fours.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Taps = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]

_PRECISION = 22  # bits behind the point of a weight
_HALF = 1 << (_PRECISION - 1)
_ROWS = 16
_SQUARE = 32  # pixels
_STEP = 4  # taps at once; weights beyond the last are zero

_compiled = numba.njit(nogil=True)


@_compiled
def _taps(size: int, start: np.float32, stop: np.float32, out: int) -> Taps:
    """Weigh the inputs of each output: first input, number of inputs, weights in fixed point.

    The kernel is Keys' cubic convolution with a = -0.5 (R. Keys, "Cubic convolution interpolation
    for digital image processing", 1981), stretched by the scale where that is above one.
    """
    scale = np.float64(stop - start) / out
    stretch = max(scale, 1.0)
    support = 2.0 * stretch
    inverse = 1.0 / stretch
    longest = int(np.ceil(support)) * 2 + 1
    first = np.empty(out, np.int64)
    count = np.empty(out, np.int64)
    weights = np.zeros((out, longest + _STEP), np.int32)
    real = np.empty(longest)
    for i in range(out):
        centre = start + (i + 0.5) * scale
        low = max(int(centre - support + 0.5), 0)
        length = min(int(centre + support + 0.5), size) - low
        total = 0.0
        for j in range(length):
            x = abs((j + low - centre + 0.5) * inverse)
            real[j] = 0.0
            if x < 1.0:
                real[j] = (1.5 * x - 2.5) * x * x + 1
            elif x < 2.0:
                real[j] = (((x - 5) * x + 8) * x - 4) * -0.5
            total += real[j]
        for j in range(length):
            share = real[j] / total if total != 0.0 else real[j]
            fixed = share * (1 << _PRECISION)
            weights[i, j] = int(fixed - 0.5) if fixed < 0 else int(fixed + 0.5)
        first[i] = low
        count[i] = length
    return first, count, weights


@_compiled
def _interleave(a: Bytes, b: Bytes, c: Bytes, d: Bytes, mixed: Bytes) -> None:
    for j in range(len(a)):
        mixed[4 * j] = a[j]
        mixed[4 * j + 1] = b[j]
        mixed[4 * j + 2] = c[j]
        mixed[4 * j + 3] = d[j]


@_compiled
def _separate(mixed: Bytes, a: Bytes, b: Bytes, c: Bytes, d: Bytes) -> None:
    for j in range(len(a)):
        a[j] = mixed[4 * j]
        b[j] = mixed[4 * j + 1]
        c[j] = mixed[4 * j + 2]
        d[j] = mixed[4 * j + 3]


@_compiled
def _to_columns(rows: Bytes, top: int, fours: Bytes, columns: Bytes) -> None:
    """Transpose 16 rows from `top` on; the last row stands for those beyond it."""
    last = len(rows) - 1
    for q in range(4):
        r = top + 4 * q
        a, b, c, d = min(r, last), min(r + 1, last), min(r + 2, last), min(r + 3, last)
        _interleave(rows[a], rows[b], rows[c], rows[d], fours[q])
    words = fours.view(np.uint32)
    _interleave(words[0], words[1], words[2], words[3], columns.view(np.uint32))


@_compiled
def _to_rows(columns: Bytes, fours: Bytes, rows: Bytes, top: int) -> None:
    words = fours.view(np.uint32)
    _separate(columns.view(np.uint32), words[0], words[1], words[2], words[3])
    for q in range(4):
        r = top + 4 * q
        _separate(fours[q], rows[r], rows[r + 1], rows[r + 2], rows[r + 3])


@_compiled
def _weigh(pixels: Bytes, taps: Taps, sums: Bytes, out: Bytes) -> None:
    """Weigh columns of 16 rows; `pixels` has `_STEP` more than there are columns."""
    first, count, weights = taps
    for i in range(len(first)):
        sums[:] = _HALF
        for t in range(0, count[i], _STEP):
            at = first[i] + t
            a, b, c, d = pixels[at], pixels[at + 1], pixels[at + 2], pixels[at + 3]
            k, m, n, o = weights[i, t], weights[i, t + 1], weights[i, t + 2], weights[i, t + 3]
            for j in range(3 * _ROWS):  # a constant, which halves the time
                sums[j] += a[j] * k + b[j] * m + c[j] * n + d[j] * o
        line = out[i]
        for j in range(3 * _ROWS):
            line[j] = min(max(sums[j] >> _PRECISION, 0), 255)


@_compiled
def _across(rows: Bytes, taps: Taps) -> Bytes:
    """Resize along the rows."""
    height, width, out = len(rows), rows.shape[1] // 3, len(taps[0])
    blocks = (height + _ROWS - 1) // _ROWS
    result = np.empty((blocks * _ROWS, 3 * out), np.uint8)
    source = np.zeros((width + _STEP, 3 * _ROWS), np.uint8)
    target = np.empty((out, 3 * _ROWS), np.uint8)
    wide, narrow = np.empty((4, 12 * width), np.uint8), np.empty((4, 12 * out), np.uint8)
    sums = np.empty(3 * _ROWS, np.int32)
    for block in range(blocks):
        _to_columns(rows, block * _ROWS, wide, source[:width].reshape(-1))
        _weigh(source, taps, sums, target)
        _to_rows(target.reshape(-1), narrow, result, block * _ROWS)
    return result[:height]


@_compiled
def _down(rows: Bytes, taps: Taps) -> Bytes:
    """Resize along the columns."""
    first, count, weights = taps
    length, last = rows.shape[1], len(rows) - 1
    result = np.empty((len(first), length), np.uint8)
    sums = np.empty(length, np.int32)
    for i in range(len(first)):
        sums[:] = _HALF
        for t in range(0, count[i], _STEP):
            at = first[i] + t
            a, b = rows[at], rows[min(at + 1, last)]
            c, d = rows[min(at + 2, last)], rows[min(at + 3, last)]
            k, m, n, o = weights[i, t], weights[i, t + 1], weights[i, t + 2], weights[i, t + 3]
            for j in range(length):
                sums[j] += a[j] * k + b[j] * m + c[j] * n + d[j] * o
        line = result[i]
        for j in range(length):
            line[j] = min(max(sums[j] >> _PRECISION, 0), 255)
    return result


@numba.njit(
    "uint8[:, ::1](uint8[:, ::1], float32, float32, float32, float32, int64, int64, boolean)",
    nogil=True,
    cache=True,
)
def resize(
    rows: Bytes,
    left: np.float32,
    top: np.float32,
    right: np.float32,
    bottom: np.float32,
    height: int,
    width: int,
    down_first: bool,
) -> Bytes:
    """Resize as ``Image.resize((width, height), BICUBIC, box)`` does.

    Parameters
    ----------
    rows
        uint8 (source height, 3 * source width), C-contiguous.
    left, top, right, bottom
        The part that is scaled, in pixels, within the source; float32, as Pillow keeps it.
    height, width
        Size of the result in pixels.
    down_first
        Whether columns are resized before rows; the pixels are rounded in between.

    Returns
    -------
    ndarray
        uint8 (height, 3 * width).
    """
    across = _taps(rows.shape[1] // 3, left, right, width)
    down = _taps(len(rows), top, bottom, height)
    if down_first:
        result: Bytes = _across(_down(rows, down), across)
    else:
        first, count, _ = down
        begin, end = first[0], first[-1] + count[-1]
        first -= begin
        result = _down(_across(rows[begin:end], across), down)
    return result


@_compiled
def _grey(red: np.uint64, green: np.uint64, blue: np.uint64, pixels: int) -> np.uint64:
    """Divide sums over `pixels`, and weigh them by ITU-R BT.601, in Pillow's integers."""
    factor = np.uint64(np.float32(1 << 32) / np.float32(256 * pixels))
    half, shift = np.uint64(pixels // 2), np.uint64(24)
    r = (red + half) * factor >> shift
    g = (green + half) * factor >> shift
    b = (blue + half) * factor >> shift
    mixed = r * np.uint64(19595) + g * np.uint64(38470) + b * np.uint64(7471)
    return (mixed + np.uint64(32768)) >> np.uint64(16)


@numba.njit("uint8[:, ::1](uint8[:, ::1], int64, int64)", nogil=True, cache=True)
def reduced_grey(rows: Bytes, across: int, down: int) -> Bytes:
    """Average blocks and convert to grey as ``Image.reduce((across, down)).convert("L")`` does.

    Blocks at the right and the lower edge are smaller where the size is no multiple.

    Parameters
    ----------
    rows
        uint8 (height, 3 * width), C-contiguous.
    across, down
        Size of a block in pixels, at most that of the image.

    Returns
    -------
    ndarray
        uint8 (number of blocks down, number of blocks across).
    """
    height, width = len(rows), rows.shape[1] // 3
    grey = np.empty((-(-height // down), -(-width // across)), np.uint8)
    sums = np.empty(3 * width, np.uint32)
    for i in range(len(grey)):
        sums[:] = 0
        tall = min(down, height - i * down)
        for y in range(i * down, i * down + tall):
            row = rows[y]
            for j in range(3 * width):
                sums[j] += row[j]
        for p in range(grey.shape[1]):
            left, right = p * across, min((p + 1) * across, width)
            red = green = blue = np.uint64(0)
            for x in range(left, right):
                red += sums[3 * x]
                green += sums[3 * x + 1]
                blue += sums[3 * x + 2]
            grey[i, p] = _grey(red, green, blue, tall * (right - left))
    return grey


@numba.njit("uint8[:, :, ::1](uint8[:, :, :])", nogil=True, cache=True)
def copied(view: Bytes) -> Bytes:
    """Copy a view of any strides, square by square, so that both sides stay in the caches.

    Parameters
    ----------
    view
        uint8 (height, width, 3).

    Returns
    -------
    ndarray
        The same, C-contiguous.
    """
    height, width, _ = view.shape
    copy = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _SQUARE):
        for left in range(0, width, _SQUARE):
            for y in range(top, min(top + _SQUARE, height)):
                for x in range(left, min(left + _SQUARE, width)):
                    copy[y, x, 0] = view[y, x, 0]
                    copy[y, x, 1] = view[y, x, 1]
                    copy[y, x, 2] = view[y, x, 2]
    return copy
