"""Paths: evaluations of one algorithm along training, over seeds, and how two of them compare under resampling.

A bootstrap resample draws seeds and problems with replacement, the same ones for every algorithm: what makes a seed's
base or a problem easy for all cancels in a difference. Row 0 of every resampled array is the data as it is.

Shape letters: S seeds, T evaluations along training, P problems, K values of k, B resamples.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

GRID = 16
LEAST_GAIN = 0.005


@dataclasses.dataclass(frozen=True)
class Path:
    """One algorithm's evaluations.

    Attributes:
      steps: [T] RL steps, rising; the first is 0, the base.
      pass_at: [S, T, P, K] Pass@k.
      entropy: [S, T, P] mean surprise of a token of the problem's answers, in nats.
    """

    steps: tuple[int, ...]
    pass_at: np.ndarray
    entropy: np.ndarray

    def upto(self, step: int) -> "Path":
        """The path as it was after this step."""
        kept = [at for at, each in enumerate(self.steps) if each <= step]
        return Path(tuple(self.steps[at] for at in kept), self.pass_at[:, kept], self.entropy[:, kept])


@dataclasses.dataclass(frozen=True)
class Means:
    """Resampled means of a path: steps [T], pass_at [B + 1, T, K], entropy [B + 1, T]."""

    steps: tuple[int, ...]
    pass_at: np.ndarray
    entropy: np.ndarray

    def at(self, step: int) -> np.ndarray:
        """[B + 1, K] Pass@k after a step."""
        return self.pass_at[:, self.steps.index(step)]

    def entropy_at(self, step: int) -> np.ndarray:
        """[B + 1]."""
        return self.entropy[:, self.steps.index(step)]


def resample(paths: Mapping[str, Path], resamples: int, seed: int) -> dict[str, Means]:
    """Means of every path on the same resampled seeds and problems.

    Raises:
      ValueError: paths differ in their numbers of seeds, problems or values of k.
    """
    shapes = {(path.pass_at.shape[0], *path.pass_at.shape[2:]) for path in paths.values()}
    if len(shapes) != 1:
        raise ValueError(f"paths must have the same seeds, problems and ks, but have [S, P, K] of {sorted(shapes)}")
    seeds, problems, _ = shapes.pop()
    rng = np.random.default_rng(seed)
    of_seed, of_problem = (np.concatenate([np.full((1, count), 1 / count), rng.multinomial(
        count, np.full(count, 1 / count), size=resamples) / count]) for count in (seeds, problems))
    return {name: Means(path.steps, _weighted(path.pass_at, of_seed, of_problem),
                        _weighted(path.entropy[..., None], of_seed, of_problem)[..., 0])
            for name, path in paths.items()}


def _weighted(values: np.ndarray, seeds: np.ndarray, problems: np.ndarray) -> np.ndarray:
    """[S, T, P, K] under weights [B, S] and [B, P] -> [B, T, K]."""
    total = np.zeros((len(seeds), values.shape[1], values.shape[3]))
    for index, of_seed in enumerate(values):
        # einsum without BLAS sums in one fixed order, whatever the number of threads.
        total += seeds[:, index, None, None] * np.einsum("bp,tpk->btk", problems, of_seed, optimize=False)
    return total


def area(pass_at: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """[..., K] -> [...]: mean Pass@k over log2 k, by trapezoids; the level of the curve as the page draws it."""
    x = np.log2(ks)
    return ((pass_at[..., 1:] + pass_at[..., :-1]) / 2 * np.diff(x)).sum(axis=-1) / (x[-1] - x[0])


def matched(one: Means, other: Means, reading: Callable[[Means], np.ndarray]) -> np.ndarray:
    """[B + 1, GRID] or [B + 1, GRID, K]: `one` minus `other` where both have the same Pass@1, from the base upwards.

    Each path is followed until it first reaches a level of Pass@1, between two evaluations in a straight line. The
    levels divide the gain that both reach, evenly from the base (without it) to the smaller of both largest gains. NaN
    where that gain is below `LEAST_GAIN`.

    Args: reading: what is compared, [B + 1, T] or [B + 1, T, K] of a path, such as its pass_at or its entropy.
    """
    gains = [means.pass_at[:, :, 0] for means in (one, other)]
    tops = [np.maximum.accumulate(gain, axis=1) for gain in gains]
    start, end = gains[0][:, 0], np.minimum(tops[0][:, -1], tops[1][:, -1])
    enough = end - start >= LEAST_GAIN
    levels = start[:, None] + (end - start)[:, None] * (np.arange(GRID) + 1) / GRID
    read = [_at_levels(gain, reading(means), levels) for gain, means in zip(gains, (one, other), strict=True)]
    difference = read[0] - read[1]
    difference[~enough] = np.nan
    return difference


def _at_levels(x: np.ndarray, y: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """y [B, T, ...] where x [B, T] first reaches each level [B, G], in straight lines between points."""
    reached = x[:, None, :] >= levels[:, :, None] - 1e-12
    after = np.clip(reached.argmax(axis=2), 1, None)  # level and base may coincide
    rows = np.arange(len(x))[:, None]
    low, high = x[rows, after - 1], x[rows, after]
    share = np.clip((levels - low) / np.where(high > low, high - low, 1.0), 0.0, 1.0)
    share = share.reshape(share.shape + (1,) * (y.ndim - 2))
    return (1 - share) * y[rows, after - 1] + share * y[rows, after]
