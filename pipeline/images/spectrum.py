"""The lowest frequencies of a picture: what of it stays when it is stored again, scaled or turned.

A spectrum holds the 12 x 12 lowest coefficients of the two-dimensional DCT-II of the grey picture
at 32 x 32 pixels, without the constant one: each brought to int8 by the root of its size relative
to the largest, its sign kept. The root lets many coefficients speak and not the few largest alone,
as the bits of the usual perceptual hash do (C. Zauner, "Implementation and benchmarking of
perceptual image hash functions", 2010), which are the signs of the lowest 8 x 8 but for a median
near zero.

A mirrored picture has the same coefficients, those of odd frequency along the mirrored axis with
the other sign; a picture turned by a quarter has them transposed besides. So the eight ways to lay
a picture down differ by four patterns of signs and one transposition, and all comparisons here are
those of the best of the eight.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

SIDE = 32
"""Pixels on a side of the grey picture that a spectrum is made of."""

FREQUENCIES = 12
SPECTRUM = FREQUENCIES * FREQUENCIES
"""Numbers in a spectrum."""

MIRRORS = np.array([0, 0x0000FFFF0000FFFF, 0x00000000FFFFFFFF, 0x0000FFFFFFFF0000], np.uint64)
"""What a code is XORed with where its picture is mirrored: not, sideways, upside down, both."""

# Below this deviation of the small picture's grey levels it is flat: what is left is noise.
_FLAT = 1.0
_COSINES = np.cos(np.pi * np.outer(np.arange(FREQUENCIES), 2 * np.arange(SIDE) + 1) / (2 * SIDE))
_HASHED = 8


def _by_parity(side: int) -> NDArray[np.int64]:
    """Return the places, (4, side² / 4), of frequencies by parity: down, then across."""
    grid = np.arange(FREQUENCIES**2).reshape(FREQUENCIES, FREQUENCIES)[:side, :side]
    return np.stack([grid[down::2, across::2].ravel() for down, across in product((0, 1), (0, 1))])


_PARITIES = _by_parity(FREQUENCIES)
_HASHED_PLACES = _by_parity(_HASHED).ravel()
# Signs of (even-odd, odd-even, odd-odd) frequencies under each of `MIRRORS`.
_SIGNS = np.array([[1, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]], np.float32)


def spectrum_of(grey: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Return the spectrum of a grey picture, int8 ``(144,)``; of a flat one all zero.

    Parameters
    ----------
    grey
        uint8 ``(32, 32)``.
    """
    pixels = grey.astype(np.float64)
    # Rounding keeps what is zero from being the arithmetic's noise.
    low = np.round(_COSINES @ pixels @ _COSINES.T, 6).ravel()
    low[0] = 0
    if pixels.std() < _FLAT or not low.any():
        return np.zeros(SPECTRUM, np.int8)
    sizes = np.sqrt(np.abs(low) / np.abs(low).max())
    return np.asarray(np.rint(127 * np.sign(low) * sizes), np.int8)


def transposed(spectra: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return the spectra, int8 ``(n, 144)``, of the pictures with rows and columns exchanged."""
    blocks = spectra.reshape(-1, FREQUENCIES, FREQUENCIES)
    return np.ascontiguousarray(blocks.transpose(0, 2, 1)).reshape(-1, SPECTRUM)


def codes(spectra: NDArray[np.int8]) -> NDArray[np.uint64]:
    """Return 64 bits for each spectrum: the signs of the lowest 8 x 8 frequencies.

    Four words of 16 bits, from the high ones: frequencies even down and across, even-odd,
    odd-even, odd-odd, so that a mirrored picture's words are the same or their complements. The
    highest bit, of the constant, is always 0.

    Parameters
    ----------
    spectra
        int8 ``(n, 144)``.
    """
    bits = np.packbits(spectra[:, _HASHED_PLACES] > 0, axis=1)
    return np.ascontiguousarray(bits).view(">u8").ravel().astype(np.uint64)


def distance(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Return how many bits two codes differ in, at least, if either picture may be mirrored."""
    differing = a ^ b
    best: NDArray[np.uint8] = np.bitwise_count(differing)
    for mirror in MIRRORS[1:]:
        np.minimum(best, np.bitwise_count(differing ^ mirror), out=best)
    return best


def unit(spectra: NDArray[np.int8]) -> NDArray[np.float32]:
    """Return spectra as `similarity` takes them: float32 ``(n, 4, 36)`` of length 1, by parity."""
    rows = spectra.astype(np.float32)[:, _PARITIES]
    lengths = np.sqrt(np.einsum("npk,npk->n", rows, rows))
    rows /= np.maximum(lengths, 1e-9)[:, None, None]
    return rows


def similarity(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the correlation of spectra, float32 ``(m,)``, of the best of four mirrorings.

    Parameters
    ----------
    a, b
        float32 ``(m, 4, 36)``, as `unit` gives them.
    """
    plain, *mirrored = np.einsum("mpk,mpk->pm", a, b)
    return np.asarray(plain + (_SIGNS @ np.stack(mirrored)).max(axis=0), np.float32)
