"""Pass@k and its uncertainty: pure functions of counts.

Shape letters: S seeds, P problems, K values of k, B bootstrap resamples.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A mean and the ends of its bootstrap interval. mean, low, high: [K] float64."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def pass_at_k(right: np.ndarray, total: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """Unbiased estimate of the chance that at least one of k answers is right, for each problem.

    1 - C(n - c, k) / C(n, k) with n valid answers of which c are right, as the running product
    1 - prod_{j < k} (n - c - j) / (n - j): every factor is in [0, 1], so nothing overflows, and one
    pass serves every k. Chen et al. 2021, "Evaluating Large Language Models Trained on Code", Eq. 1.

    Unscorable answers (time-outs, crashes) are neither right nor wrong: leave them out of `total`.
    Problems may then differ in n, and a k beyond the smallest n has no unbiased estimate, so it is
    refused; `powers_of_two(n, at_most=total.min())` gives the values of k that remain.

    Args:
      right: [..., P] right answers of each problem, 0..total.
      total: [..., P] valid answers of each problem.
      ks: K values, each in 1..min(total).

    Returns:
      [..., P, K] float64 in [0, 1].

    Raises:
      ValueError: counts are out of range, or some problem has fewer than k valid answers.
    """
    right, total = np.broadcast_arrays(np.asarray(right), np.asarray(total))
    draws = np.asarray(ks)
    _check_counts(right, total, draws)
    right, total = right[..., None].astype(np.float64), total[..., None].astype(np.float64)
    drawn_before = np.arange(draws.max())
    still_wrong = np.maximum(total - right - drawn_before, 0.0) / (total - drawn_before)
    return 1.0 - np.cumprod(still_wrong, axis=-1)[..., draws - 1]


def powers_of_two(samples: int, at_most: int | None = None) -> tuple[int, ...]:
    """1, 2, 4, ... up to `samples`, and `samples` itself; `at_most` then drops what is larger.

    Pass the smallest number of valid answers as `at_most`: the values of k then stay the same in
    every evaluation with the same `samples`, except for the few that one of them cannot estimate.

    Raises:
      ValueError: `samples` is below 1.
    """
    if samples < 1:
        raise ValueError(f"samples is {samples}, but Pass@k needs at least 1 answer a problem")
    powers = {2**exponent for exponent in range(samples.bit_length())} | {samples}
    return tuple(sorted(k for k in powers if at_most is None or k <= at_most))


def bootstrap_interval(
    per_problem: np.ndarray, resamples: int, seed: int, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval of the mean over problems, or over seeds and problems.

    One seed: problems are drawn with replacement, so the interval says how the mean would move with
    other problems of the same kind. Several seeds: seeds and problems are drawn independently of
    each other, every seed seeing the same resampled problems, as all seeds answered the same ones.
    With S seeds the seeds' share of the variance comes out too small by the factor (S - 1) / S.
    The k answers of a problem are not resampled: their noise is already in the per-problem values.

    The same arguments give the same interval. Another order of the problems gives the same mean but
    pairs the random draws with other problems, which moves the ends by Monte Carlo noise.

    Args:
      per_problem: [P, K] or [S, P, K], finite.
      resamples: B, at least 1; 1,000 puts the ends within about a tenth of their distance.
      seed: of the random draws.
      level: share of the resampled means inside the interval, in (0, 1).

    Returns:
      low [K], high [K].

    Raises:
      ValueError: wrong shape, a value that is not finite, or `resamples` or `level` out of range.
    """
    values = _with_seed_axis(per_problem)
    _check_bootstrap(resamples, level)
    generator = np.random.default_rng(seed)
    problems = _weights(generator, resamples, values.shape[1])
    means = _weighted_means(values, _weights(generator, resamples, values.shape[0]), problems)
    low, high = _percentiles(means, level)
    return low, high


def paired_difference(
    after: np.ndarray, before: np.ndarray, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Mean of `after` minus mean of `before` on the same problems, with its bootstrap interval.

    Each resample uses the same problems on both sides, so what makes a problem easy or hard for both
    cancels. Seeds, which may differ in number, are resampled on each side by themselves.

    Args:
      after, before: [P, K] or [S, P, K]; P and K must agree.
      resamples, seed, level: as in `bootstrap_interval`.

    Returns:
      The difference and its interval, each [K]; no clear change where low <= 0 <= high.

    Raises:
      ValueError: the shapes do not agree, or as in `bootstrap_interval`.
    """
    first, second = _with_seed_axis(after), _with_seed_axis(before)
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"a paired difference needs the same problems and the same k on both sides, but the shapes "
            f"[problems, ks] are {first.shape[1:]} and {second.shape[1:]}"
        )
    _check_bootstrap(resamples, level)
    generator = np.random.default_rng(seed)
    problems = _weights(generator, resamples, first.shape[1])
    means = [_weighted_means(side, _weights(generator, resamples, side.shape[0]), problems) for side in (first, second)]
    return Interval(first.mean(axis=(0, 1)) - second.mean(axis=(0, 1)), *_percentiles(means[0] - means[1], level))


def pass_at_k_summary(
    right: np.ndarray, total: np.ndarray, samples: int, resamples: int, seed: int
) -> dict[str, list[float]]:
    """{"1": [mean, low, high], "2": ...} of one evaluation, as the run folder's summary keeps it.

    Args:
      right, total: [P] right and valid answers of each problem.
      samples: answers drawn for each problem, the unscorable ones included.
      resamples, seed: as in `bootstrap_interval`.

    Raises:
      ValueError: as in `pass_at_k`; or a problem has no valid answer at all.
    """
    ks = powers_of_two(samples, at_most=max(1, int(np.min(total))))
    per_problem = pass_at_k(right, total, ks)
    low, high = bootstrap_interval(per_problem, resamples, seed)
    rows = zip(ks, per_problem.mean(axis=0), low, high, strict=True)
    return {str(k): [float(mean), float(below), float(above)] for k, mean, below, above in rows}


def _check_counts(right: np.ndarray, total: np.ndarray, draws: np.ndarray) -> None:
    if total.ndim < 1 or total.size == 0:
        raise ValueError(
            f"right and total must be [..., P] with at least one problem, but have the shape {total.shape}"
        )
    if draws.ndim != 1 or draws.size == 0 or not np.issubdtype(draws.dtype, np.integer) or draws.min() < 1:
        raise ValueError(f"ks must be whole numbers of at least 1, such as (1, 2, 4), but is {draws.tolist()}")
    bad = (right < 0) | (right > total)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"problem {where[-1]} has {right[where]} right of {total[where]} valid answers; right must be in 0..total"
        )
    if total.min() < draws.max():
        fewest = int(np.argwhere(total == total.min())[0][-1])
        raise ValueError(
            f"k={draws.max()} needs at least {draws.max()} valid answers of every problem, but problem "
            f"{fewest} has {total.min()}: ask for k up to {total.min()}, draw more answers, or leave "
            "that problem out"
        )


def _check_bootstrap(resamples: int, level: float) -> None:
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}, but a bootstrap needs at least 1; 1000 is usual")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level}, but must lie between 0 and 1, such as 0.95")


def _with_seed_axis(per_problem: np.ndarray) -> np.ndarray:
    values = np.asarray(per_problem, np.float64)
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise ValueError(
            f"per-problem values must be [P, K] or [S, P, K] and not empty, but have the shape {values.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError("per-problem values must be finite; leave out problems that have no valid answer")
    return values if values.ndim == 3 else values[None]


def _weights(generator: np.random.Generator, resamples: int, items: int) -> np.ndarray:
    """[B, items]: how often each item was drawn in `items` draws with replacement, as a share."""
    return generator.multinomial(items, np.full(items, 1.0 / items), size=resamples) / items


def _weighted_means(values: np.ndarray, seeds: np.ndarray, problems: np.ndarray) -> np.ndarray:
    """[S, P, K] values under seed weights [B, S] and problem weights [B, P] -> [B, K]."""
    means = np.zeros((seeds.shape[0], values.shape[2]))
    for index, of_seed in enumerate(values):
        # einsum without BLAS sums in one fixed order, whatever the number of threads.
        means += seeds[:, index, None] * np.einsum("bp,pk->bk", problems, of_seed, optimize=False)
    return means


def _percentiles(means: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0], axis=0)
    return low, high
