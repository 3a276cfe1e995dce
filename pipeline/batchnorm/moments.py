"""Exact moments of many numbers, put together from parts; and how far two Gaussians are apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.batchnorm.layers import Statistics


@dataclass(frozen=True, slots=True)
class Moments:
    """Number, mean and scatter of what each channel was given.

    Attributes
    ----------
    count
        Numbers a channel.
    mean, scatter
        float64 ``(channels,)``: their mean, and the sum of their squared deviations from it.
    """

    count: int
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]

    @classmethod
    def of_parts(
        cls, size: int, means: NDArray[np.floating], variances: NDArray[np.floating]
    ) -> Self:
        """Put together parts of one size, such as images.

        By the parallel form of Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm
        for Computing Sample Variances", 1979, equation 2.1, for many parts at once: the scatter is
        that within the parts, and that of their means.

        Parameters
        ----------
        size
            Numbers a channel in each part, at least 1.
        means, variances
            ``(parts, channels)``: mean of each part, and mean squared deviation from it.
        """
        means, variances = means.astype(np.float64), variances.astype(np.float64)
        mean = means.mean(axis=0)
        between = np.square(means - mean).sum(axis=0)
        return cls(size * len(means), mean, size * (variances.sum(axis=0) + between))

    def merged(self, other: Self) -> Self:
        """Put together two sets of numbers, by the same formula."""
        count = self.count + other.count
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        between = np.square(apart) * (self.count * other.count / count)
        return type(self)(count, mean, self.scatter + other.scatter + between)

    @property
    def variance(self) -> NDArray[np.float64]:
        """Mean squared deviation, as BatchNorm has it: divided by the count, not one less."""
        return self.scatter / self.count

    @property
    def statistics(self) -> Statistics:
        """What a BatchNorm layer would hold that had seen exactly these numbers."""
        return Statistics(self.mean.astype(np.float32), self.variance.astype(np.float32))


def jeffreys(
    mean: NDArray[np.floating],
    variance: NDArray[np.floating],
    other_mean: NDArray[np.floating],
    other_variance: NDArray[np.floating],
) -> NDArray[np.float64]:
    """How far pairs of Gaussians are apart, as the sum of the two Kullback-Leibler divergences.

    Jeffreys, "An Invariant Form for the Prior Probability in Estimation Problems", 1946. Li, Wang,
    Shi, Liu and Hou, "Revisiting Batch Normalization For Practical Domain Adaptation" (AdaBN, 2016,
    https://arxiv.org/abs/1603.04779), compare data sets with it, channel by channel of a BatchNorm
    layer, as here. Zero for the same Gaussian; 1 for a mean one deviation off; 1.1 for a doubled
    deviation; the logarithms of the variances cancel.

    Parameters
    ----------
    mean, variance, other_mean, other_variance
        ``(channels,)`` each; variances above zero.

    Returns
    -------
    ndarray of float64, shape (channels,)
        In nats, from 0 on.
    """
    first, second = variance.astype(np.float64), other_variance.astype(np.float64)
    apart = np.square(mean.astype(np.float64) - other_mean)
    return (first + apart) / (2 * second) + (second + apart) / (2 * first) - 1
