"""Whole numbers of samples in proportion to weights: exact totals, bounds for each problem."""

import bisect
import heapq

import numpy as np

from rl_reasoning.require import require, require_choice

ROUNDINGS = ("remainder", "optimal")
SMALLEST = 1e-150  # of the largest weight: keeps quotients and squares finite


def apportion(weights: np.ndarray, total: int, *, minimum: np.ndarray | int = 0,
              maximum: np.ndarray | int | None = None, rounding: str = "remainder") -> np.ndarray:
    """How many of `total` samples each problem gets.

    A problem of weight 0 gets its minimum, unless the others are at their maximum; what is left then goes to those
    of weight 0 alike. So weights that are all 0 share alike.

    Args:
      weights: [P] finite, >= 0; only their ratios matter.
      total: the sum of the counts.
      minimum, maximum: bounds of each count, one number or [P]; None is no upper bound.
      rounding: "remainder" rounds the proportional shares down and gives what is left to the largest remainders
        (Hamilton's method; what the released code of arXiv 2505.02391 comes to). "optimal" gives one sample at a time
        to where sum(weights**2 / counts) falls most, which minimises it over whole numbers (Huntington and Hill's
        method): no positive weight stays without a sample while samples last.

    Returns:
      [P] int64, summing to `total`.

    Raises:
      ValueError: a weight that is negative or not finite, bounds that no counts meet, or an unknown rounding.
    """
    weights = np.asarray(weights, np.float64)
    for weight in weights[~(np.isfinite(weights) & (weights >= 0))][:1]:
        require(False, "a weight", float(weight), "a finite number >= 0", "Look at what it was made of.")
    require_choice("rounding", rounding, ROUNDINGS)
    low = np.broadcast_to(np.asarray(minimum, np.int64), weights.shape)
    most = total if maximum is None else np.minimum(maximum, total)
    high = np.broadcast_to(np.asarray(most, np.int64), weights.shape)
    require(bool((low >= 0).all() and (low <= high).all() and low.sum() <= total <= high.sum()), "total", total,
            f"from {low.sum()}, the sum of the minima, to {high.sum()}, that of the maxima, each minimum at most its "
            "maximum", "Change the total or a bound.")
    if low.sum() == total:
        return low.copy()
    wanted = weights > 0
    if high[wanted].sum() + low[~wanted].sum() < total:
        low, weights = np.where(wanted, high, low), np.ones_like(weights)
    weights = np.where(weights > 0, np.maximum(weights / weights.max(), SMALLEST), 0)
    return (_largest_remainders if rounding == "remainder" else _one_by_one)(weights, total, low, high)


def _largest_remainders(weights: np.ndarray, total: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    shares = _shares(weights, total, low, high)
    counts = np.floor(shares).astype(np.int64)
    counts[np.argsort(counts - shares, kind="stable")[:total - counts.sum()]] += 1
    return counts


def _shares(weights: np.ndarray, total: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The fractions clip(c * weights, low, high) whose sum is the total."""
    positive = weights > 0
    corners = np.unique(np.concatenate([bound[positive] / weights[positive] for bound in (low, high)]))

    def clipped(level: float) -> np.ndarray:
        return np.where(positive, np.clip(level * weights, low, high), low)

    # The sum grows with the level and is linear between corners: find the two that it passes the total between.
    place = bisect.bisect_left(corners, total, key=lambda level: clipped(level).sum())
    upper = corners[min(place, len(corners) - 1)]
    lower = corners[place - 1] if place else 0.0
    middle = (lower + upper) / 2
    free = positive & (middle * weights > low) & (middle * weights < high)
    fixed = np.where(free, 0, clipped(middle))
    level = (total - fixed.sum()) / max(weights[free].sum(), SMALLEST)
    return np.where(free, np.clip(level * weights, low, high), fixed)


def _one_by_one(weights: np.ndarray, total: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    counts = low.astype(np.int64)

    def worth(problem: int) -> tuple[float, float, int]:
        """What one more sample takes off weight**2 / count, largest first; a first one takes off infinity."""
        count, square = counts[problem], weights[problem] ** 2
        return (-square / (count * (count + 1)) if count else -np.inf), -weights[problem], problem

    heap = [worth(problem) for problem in np.flatnonzero((weights > 0) & (counts < high)).tolist()]
    heapq.heapify(heap)
    for _ in range(total - int(counts.sum())):
        problem = heapq.heappop(heap)[-1]
        counts[problem] += 1
        if counts[problem] < high[problem]:
            heapq.heappush(heap, worth(problem))
    return counts
