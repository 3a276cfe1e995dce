"""Groups of images that no fold may divide: made one where they share an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def joined(
    number: NDArray[np.int64], i: NDArray[np.integer], j: NDArray[np.integer]
) -> NDArray[np.int64]:
    """Make groups one that are tied together.

    Parameters
    ----------
    number
        int64 ``(n,)``, not negative: equal numbers for images of a group.
    i, j
        ``(m,)``: numbers of groups, the two ends of each tie.

    Returns
    -------
    ndarray
        int64 ``(n,)``: equal numbers for images of a group, now that groups tied together are one.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes = 1 + max(int(part.max(initial=-1)) for part in (number, i, j))
    ties = coo_array((np.ones(len(i), np.int8), (i, j)), shape=(nodes, nodes))
    component: NDArray[np.int32] = connected_components(ties, directed=False)[1]
    return component[number].astype(np.int64)


def united(first: NDArray[np.int64], *others: NDArray[np.int64]) -> NDArray[np.int64]:
    """Unite groupings of the same images: groups that share an image are one.

    Parameters
    ----------
    first, others
        int64 ``(n,)`` each, not negative: equal numbers for images of a group.

    Returns
    -------
    ndarray
        int64 ``(n,)``: equal numbers for images of a united group.
    """
    for other in others:
        # Both groupings' groups are nodes, and each image ties two of them.
        first = joined(first, first, other + first.max(initial=-1) + 1)
    return first


def numbered(names: Sequence[str]) -> NDArray[np.int64]:
    """Return a number for each name, int64 ``(n,)``, in the order of the names."""
    return np.unique(np.array(names), return_inverse=True)[1].ravel().astype(np.int64)


def smallest(number: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the smallest number that an image of the same group has, int64 ``(n,)``."""
    order = np.lexsort((number, groups))
    _, start, group = np.unique(groups[order], return_index=True, return_inverse=True)
    found = np.empty_like(number)
    found[order] = number[order][start][group]
    return found


def sizes(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many images each image's group has, itself counted: int64 ``(n,)``."""
    _, number, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(counts[number], np.int64)
