"""L-BFGS for many linear models at once, in steps that share the products with the rows.

Directions are combinations of the last steps, the changes of the gradient and the gradient (Nocedal
and Wright, Numerical Optimization, 2006, algorithm 7.4), found by their inner products alone as in
Chen, Wang and Zhou, Large-scale L-BFGS using MapReduce, NIPS 2014. The values that a direction
gives the rows are the same combination of known ones, so that searching along it takes no product.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.design import Design
from pipeline.heads.directions import GRADIENT, MEMORY, SLOTS, Vectors, direction
from pipeline.heads.losses import Block, Loss

FLAT = 0.9
"""Part of the first slope that may be left after a step, as L-BFGS has it by custom."""
SEARCHES = 30
SPREAD = 20
"""Variance of standardised rows along a direction that matters, of the order of magnitude."""


@dataclass(frozen=True)
class Solution:
    """Minima of ``j`` models.

    Attributes
    ----------
    weights, bias
        ``(j, k, d)`` and ``(j, k)``.
    iterations
        ``(j,)`` steps taken.
    converged
        ``(j,)``: whether no entry of the gradient is beyond the tolerance.
    """

    weights: Block
    bias: Block
    iterations: NDArray[np.int64]
    converged: NDArray[np.bool_]


def minimise(
    design: Design,
    loss: Loss,
    penalty: NDArray[np.float64],
    *,
    tol: float,
    limit: int,
    bias_penalty: float = 0.0,
) -> Solution:
    """Minimise each model's mean loss plus ``penalty / 2`` times its squared weights.

    Parameters
    ----------
    design
        The rows, in the dtype of the loss's targets and weights: that of the arithmetic.
    loss
        Of ``j`` models.
    penalty
        ``(j,)``, above 0.
    tol
        Largest entry of the gradient by weights and bias, as scikit-learn's ``lbfgs`` has it.
    limit
        Steps at most.
    bias_penalty
        0 leaves biases free; 1 penalises their squares as those of weights.
    """
    j, k, _ = loss.targets.shape
    left = np.arange(j)
    at = np.zeros((j, k, design.shape[1]), loss.weights.dtype)
    bias, iterations = np.zeros((j, k)), np.zeros(j, np.int64)
    converged = np.zeros(j, bool)
    run = _Run.start(design, loss, penalty.astype(at.dtype), bias_penalty)
    for step in range(limit + 1):
        met = run.met(tol)
        out = met if step < limit else np.ones_like(met)
        # Taking models out copies what is known of the others, so not one by one.
        if 4 * out.sum() >= len(out):
            at[left[out]], bias[left[out]] = run.columns(run.now.at)[out], run.now.bias[out, 0]
            iterations[left[out]], converged[left[out]] = step, met[out]
            if out.all():
                break
            left, run = left[~out], run.only(~out)
        run.step()
    return Solution(design.weights(at), bias, iterations, converged)


@dataclass
class _Run:
    """Models on their way: where they are, what pulls them, and what the last steps taught.

    No penalty bends biases, so a step that suits weights is too short for them: the inner product
    has them over ``ease`` (j, 1, 1), and the gradient in it times that.
    """

    design: Design
    loss: Loss
    penalty: Block
    bias_penalty: float
    ease: Block
    now: Vectors
    residuals: Block
    basis: Vectors
    products: NDArray[np.float64]
    steps: int = 0

    @classmethod
    def start(cls, design: Design, loss: Loss, penalty: Block, bias_penalty: float) -> _Run:
        """All weights nil."""
        j, k, n = loss.targets.shape
        widths = (k * design.shape[1], k * n, k)
        now = Vectors.zeros(j, 1, widths, penalty.dtype)
        basis = Vectors.zeros(j, SLOTS, widths, penalty.dtype)
        residuals = loss.residuals(np.zeros((j, k, n), penalty.dtype))
        products = np.zeros((j, SLOTS, SLOTS))
        ease = (SPREAD + penalty / loss.curvature)[:, None, None]
        run = cls(design, loss, penalty, bias_penalty, ease, now, residuals, basis, products)
        run.basis.put(GRADIENT, run.gradient())
        run.measure([GRADIENT])
        return run

    def only(self, models: NDArray[np.bool_]) -> _Run:
        """Keep some of the models."""
        return replace(
            self,
            loss=self.loss.only(models),
            penalty=self.penalty[models],
            ease=self.ease[models],
            now=self.now.only(models),
            residuals=self.residuals[models],
            basis=self.basis.only(models),
            products=self.products[models],
        )

    def columns(self, flat: Block) -> Block:
        """Numbers (j, 1, k * m) of one vector a model as (j, k, m)."""
        return flat.reshape(len(flat), self.loss.targets.shape[1], -1)

    def gradient(self) -> Vectors:
        """Of the loss and the penalty, where the models are now; that of biases times ``ease``."""
        penalty = self.penalty[:, None, None]
        at = self.design.pull(self.residuals).reshape(self.now.at.shape) + penalty * self.now.at
        bias = self.residuals.sum(axis=2)[:, None] + self.bias_penalty * penalty * self.now.bias
        image = self.design.image(self.columns(at)).reshape(self.now.image.shape)
        return Vectors(at, image, bias * self.ease)

    def met(self, tol: float) -> NDArray[np.bool_]:
        """Whether the largest entry of each model's gradient is within the tolerance."""
        lengths = np.sqrt(np.maximum(self.products[:, GRADIENT, GRADIENT], 0))
        met = lengths <= self.design.near * tol
        if met.any():
            near = self.basis.slot(GRADIENT).only(met)
            weights = self.design.weights(self.columns(near.at))
            bias = near.bias / self.ease[met]
            largest = np.maximum(abs(weights).max(axis=(1, 2)), abs(bias).max(axis=(1, 2)))
            met[met] = largest <= tol
        return met

    def step(self) -> None:
        """Go along the direction to where the slope is flat enough, and remember that step."""
        shares, slopes = direction(self.products, self.steps)
        ahead = self.basis.combined(shares)
        lengths = self.search(ahead, slopes)
        taken = ahead.times(lengths)
        self.now = self.now.plus(taken)
        before, after = self.basis.slot(GRADIENT), self.gradient()
        slot = self.steps % MEMORY
        self.basis.put(slot, taken)
        self.basis.put(MEMORY + slot, after.minus(before))
        self.basis.put(GRADIENT, after)
        self.measure([slot, MEMORY + slot, GRADIENT])
        self.steps += 1

    def measure(self, slots: list[int]) -> None:
        """Take the inner products of some vectors with all, those of biases over ``ease``."""
        dual = self.design.dual(self.basis.at, self.basis.image).transpose(0, 2, 1)
        biases = (self.basis.bias / self.ease).transpose(0, 2, 1)
        found = self.basis.at[:, slots] @ dual + self.basis.bias[:, slots] @ biases
        self.products[:, slots] = found
        self.products[:, :, slots] = found.transpose(0, 2, 1)

    def search(self, ahead: Vectors, first: NDArray[np.float64]) -> Block:
        """Find lengths (j,) at which the slope is flat; leaves the residuals there.

        The slope rises along any direction, so that signs bracket its nil: by secants within.
        """
        values, pull = self._values(self.now), self._values(ahead)
        bent = self._penalised(self.now, ahead), self._penalised(ahead, ahead)
        low, high = np.zeros_like(first), np.full_like(first, np.inf)
        below, above, lengths = first.copy(), np.zeros_like(first), np.ones_like(first)
        for _ in range(SEARCHES):
            t = lengths.astype(values.dtype)[:, None, None]
            self.residuals = self.loss.residuals(values + t * pull)
            slopes = np.einsum("jkn,jkn->j", self.residuals, pull) + bent[0] + lengths * bent[1]
            steep = abs(slopes) > FLAT * abs(first)
            if not steep.any():
                break
            far = lengths * np.clip(first / np.minimum(first - slopes, -1e-300), 1.5, 10)
            low, below = np.where(slopes < 0, (lengths, slopes), (low, below))
            high, above = np.where(slopes < 0, (high, above), (lengths, slopes))
            width = np.where(np.isinf(high), 0, high - low)
            # Nil over nil where a slope was nil from the start: no width there either.
            share = below / np.minimum(below - above, -1e-300)
            inside = low + width * np.clip(share, 0.1, 0.9)
            lengths = np.where(steep, np.where(np.isinf(high), far, inside), lengths)
        return lengths.astype(values.dtype)

    def _values(self, point: Vectors) -> Block:
        """Add the bias to what one vector a model gives the rows, (j, k, n)."""
        return self.columns(point.image) + point.bias.transpose(0, 2, 1)

    def _penalised(self, a: Vectors, b: Vectors) -> NDArray[np.float64]:
        """Penalty times the inner products of what is penalised, (j,)."""
        inner = np.einsum("jsp,jsp->j", a.at, self.design.dual(b.at, b.image))
        inner += self.bias_penalty * np.einsum("jsp,jsp->j", a.bias, b.bias)
        return np.asarray(self.penalty * inner, np.float64)
