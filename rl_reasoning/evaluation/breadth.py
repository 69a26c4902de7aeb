"""Which of two paths keeps more breadth at matched Pass@1: above, tie, below, or undecided."""

import dataclasses
import enum
from collections.abc import Mapping, Sequence

import numpy as np

from rl_reasoning.evaluation.paths import Path, matched, resample
from rl_reasoning.evaluation.verdicts import interval


class Side(enum.StrEnum):
    """Where a path is beside another. TIE: they differ by too little to matter. UNDECIDED: the data do not say."""

    ABOVE = "above"
    TIE = "tie"
    BELOW = "below"
    UNDECIDED = "undecided"


@dataclasses.dataclass(frozen=True)
class Difference:
    """Pass@k of one path minus another's at the same Pass@1, mean over the gain that both reach, with its interval.

    margin: a difference whose whole interval is inside it is a tie, unless the interval leaves out zero.
    """

    k: int
    mean: float
    low: float
    high: float
    margin: float

    @property
    def side(self) -> Side:
        """What the interval says."""
        if not np.isfinite([self.low, self.high]).all():
            return Side.UNDECIDED
        if self.low > 0 or self.high < 0:
            return Side.ABOVE if self.low > 0 else Side.BELOW
        return Side.TIE if -self.margin <= self.low and self.high <= self.margin else Side.UNDECIDED


def matched_curves(one: Path, other: Path, resamples: int, seed: int) -> np.ndarray:
    """[B + 1, K]: `one` minus `other`, resampled (`evaluation.paths`); NaN where both reach no common gain.

    The same `seed` draws the same weights for as many seeds and problems, so that differences of several pairs of
    paths can be averaged resample by resample.
    """
    means = resample({"one": one, "other": other}, resamples, seed)
    return matched(means["one"], means["other"], lambda each: each.pass_at).mean(axis=1)


def differences(curves: np.ndarray, ks: Sequence[int], chosen: Sequence[int], margin: float) -> list[Difference]:
    """Of resampled curves [B + 1, K], at the chosen ones of the K values of k; their intervals share one level."""
    return [Difference(k, float(curves[0, ks.index(k)]), *interval(curves[:, ks.index(k)], len(chosen)), margin)
            for k in chosen]


def best_gain(path: Path) -> float:
    """The largest Pass@1 along a path, less the base's; paths are compared up to the smaller of two."""
    along = path.pass_at[..., 0].mean(axis=(0, 2))
    return float(along.max() - along[0])


def pooled(curves: Mapping[str, np.ndarray]) -> np.ndarray:
    """[B + 1, K]: the mean over those of several pairs that reach a common gain in the data as it is; NaN if none."""
    there = [each for each in curves.values() if np.isfinite(each[0]).all()]
    return np.stack(there or list(curves.values())).mean(axis=0)
