"""Claims and what the data says of them: holds, does not hold, or undecided.

A claim is one or several effects, each with its bootstrap interval. Margins are in the effect's unit and say what is
too small to matter. The intervals of a claim's m effects are wider, so that all of them together hold their truths in
95 of 100 repetitions (Bonferroni: level 1 - 0.05 / m).
"""

import dataclasses
import enum
from collections.abc import Mapping, Sequence

import numpy as np

MISS = 0.05


class Verdict(enum.StrEnum):
    """What the seeds say of an effect or a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNDECIDED = "undecided"


class Kind(enum.StrEnum):
    """ABOVE: the effect is above zero. NOT_BELOW: it is zero or above, up to the margin."""

    ABOVE = "above zero"
    NOT_BELOW = "not below zero"


@dataclasses.dataclass(frozen=True)
class Effect:
    """A number with its interval, and what is claimed of it.

    verdict: ABOVE holds where the whole interval is above zero, and fails where all of it is below the margin.
    NOT_BELOW holds where all of it is above minus the margin, and fails where all of it is below zero.
    """

    name: str
    kind: Kind
    mean: float
    low: float
    high: float
    margin: float

    @property
    def verdict(self) -> Verdict:
        """UNDECIDED while the interval leaves both open, or is not finite."""
        if not np.isfinite([self.low, self.high]).all():
            return Verdict.UNDECIDED
        holds = self.low > 0 if self.kind is Kind.ABOVE else self.low >= -self.margin
        fails = self.high < (self.margin if self.kind is Kind.ABOVE else 0)
        return Verdict.HOLDS if holds else Verdict.FAILS if fails else Verdict.UNDECIDED


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence and its effects; all of them must hold, and one that fails is enough for it to fail."""

    number: str
    sentence: str
    effects: tuple[Effect, ...]

    @property
    def verdict(self) -> Verdict:
        """Of all its effects together."""
        found = {effect.verdict for effect in self.effects}
        if Verdict.FAILS in found:
            return Verdict.FAILS
        return Verdict.HOLDS if found == {Verdict.HOLDS} else Verdict.UNDECIDED


def claim(number: str, sentence: str, effects: Mapping[str, tuple[Kind, np.ndarray, float]]) -> Claim:
    """A claim from resampled effects.

    Args:
      effects: {name: (kind, [B + 1] values whose first is that of the data as it is, margin)}. A value may be NaN where
        a resample has none; an effect with more than one NaN in twenty is undecided.
    """
    built = [Effect(name, kind, float(values[0]), *interval(values, len(effects)), margin)
             for name, (kind, values, margin) in effects.items()]
    return Claim(number, sentence, tuple(built))


def interval(values: np.ndarray, effects: int = 1) -> tuple[float, float]:
    """Of resampled values [B + 1] (see `claim`), as wide as one of so many effects needs; NaN where it is undecided."""
    tail, drawn = 50 * MISS / effects, values[1:]
    known = drawn[np.isfinite(drawn)]
    if len(known) == 0 or len(known) < 0.95 * len(drawn):
        return float("nan"), float("nan")
    low, high = np.percentile(known, [tail, 100 - tail])
    return float(low), float(high)


def verdict_rows(claims: Sequence[Claim], scale: float = 100.0) -> list[list[str]]:
    """A head, and a row an effect: claim, effect, mean with interval (times `scale`), its verdict, the claim's."""
    rows = [["claim", "effect", "mean [interval]", "effect's verdict", "verdict"]]
    for each in claims:
        for place, effect in enumerate(each.effects):
            numbers = f"{scale * effect.mean:+.2f} [{scale * effect.low:+.2f}, {scale * effect.high:+.2f}]" \
                if np.isfinite([effect.low, effect.high]).all() else "-"
            rows.append([f"({each.number}) {each.sentence}" if place == 0 else "", effect.name, numbers,
                         f"{effect.kind}: {effect.verdict}", each.verdict if place == 0 else ""])
    return rows
