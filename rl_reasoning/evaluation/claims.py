"""What papers claim of their methods, as effects that a study's paths decide.

Paths are named by their algorithm, and w_X for W-REINFORCE with positive weight X. All are judged after the same number
of steps except where a sentence says otherwise. Pass@k is in shares: a margin of 0.01 is one point.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from rl_reasoning.evaluation.paths import Means, Path, area, matched, resample
from rl_reasoning.evaluation.verdicts import Claim, Kind, claim

WEIGHTS = ("w_0", "w_0.05", "w_0.1", "w_0.2", "w_1")
RECOMMENDED = "w_0.1"
MARGIN = 0.01
ENTROPY_MARGIN = 0.005


def judge_negative_reinforcement(paths: Mapping[str, Path], ks: Sequence[int], step: int, resamples: int = 2000,
                                 seed: int = 0) -> list[Claim]:
    """Verdicts on the claims of "The Surprising Effectiveness of Negative Reinforcement" (arXiv 2506.01347).

    And on a seventh that the paper does not make: whether NSR's breadth is more than PSR's at matched Pass@1.

    Args:
      paths: psr, nsr, reinforce, grpo, ppo and those of `WEIGHTS`; `nsr` and `w_0.1` go on beyond `step`, for claim 6.
      ks: K values of k.
      step: where the others end.

    Raises:
      ValueError: a path is missing, or paths do not fit together (see `resample`).
    """
    missing = {"psr", "nsr", "reinforce", "grpo", "ppo", *WEIGHTS} - set(paths)
    if missing:
        raise ValueError(f"the paths of {', '.join(sorted(missing))} are missing")
    means = resample(paths, resamples, seed)
    first, last = 0, len(ks) - 1
    at = {name: each.at(step) for name, each in means.items()}
    base = means["nsr"].at(0)
    areas = {name: area(values, ks) for name, values in at.items()}
    return [
        claim("1", "NSR alone is at or above the base at every k", {
            f"NSR - base at k={k}": (Kind.NOT_BELOW, (at["nsr"] - base)[:, i], MARGIN) for i, k in enumerate(ks)}),
        claim("2", f"PSR is above the base at k={ks[0]} and below it at k={ks[-1]}", {
            f"PSR - base at k={ks[0]}": (Kind.ABOVE, (at["psr"] - base)[:, first], MARGIN),
            f"base - PSR at k={ks[-1]}": (Kind.ABOVE, (base - at["psr"])[:, last], MARGIN)}),
        claim("3", "NSR keeps more entropy than PSR, GRPO and PPO", {
            f"NSR - {name.upper()}": (Kind.ABOVE, means["nsr"].entropy_at(step) - means[name].entropy_at(step),
                                      ENTROPY_MARGIN) for name in ("psr", "grpo", "ppo")}),
        claim("4", "W-REINFORCE (0.1) is best or tied in area under the Pass@k curve", {
            f"W-REINFORCE - {name}": (Kind.NOT_BELOW, areas[RECOMMENDED] - areas[name], MARGIN)
            for name in ("psr", "nsr", "reinforce", "grpo", "ppo")}),
        claim("5", f"more positive weight raises Pass@{ks[0]} and lowers Pass@{ks[-1]}", {
            f"slope of Pass@{ks[0]}": (Kind.ABOVE, _slope(at, first), MARGIN),
            f"minus slope of Pass@{ks[-1]}": (Kind.ABOVE, -_slope(at, last), MARGIN)}),
        claim("6", "NSR degrades when trained on and on, W-REINFORCE does not", {
            "NSR's loss of area": (Kind.ABOVE, -_later(means["nsr"], ks, step), MARGIN),
            "W-REINFORCE's gain of area": (Kind.NOT_BELOW, _later(means[RECOMMENDED], ks, step), MARGIN)}),
        matched_claim("7", ("nsr", "psr"), means, ks),
    ]


def judge_method(name: str, rivals: Sequence[str], paths: Mapping[str, Path], ks: Sequence[int], step: int,
                 resamples: int = 2000, seed: int = 0) -> list[Claim]:
    """Verdicts on what is usually said for a method: better at k = 1, at least as good over all k, more entropy, and
    more breadth than its last rival at matched Pass@1.

    Raises:
      ValueError: as in `resample`.
    """
    means = resample({each: paths[each] for each in (name, *rivals)}, resamples, seed)
    at = {each: found.at(step) for each, found in means.items()}
    areas = {each: area(values, ks) for each, values in at.items()}
    label = name.upper()
    return [
        claim("1", f"{label} is above each rival at k={ks[0]}", {
            f"{label} - {rival}": (Kind.ABOVE, (at[name] - at[rival])[:, 0], MARGIN) for rival in rivals}),
        claim("2", f"{label} is at or above each rival in area under the Pass@k curve", {
            f"{label} - {rival}": (Kind.NOT_BELOW, areas[name] - areas[rival], MARGIN) for rival in rivals}),
        claim("3", f"{label} keeps more entropy than each rival", {
            f"{label} - {rival}": (Kind.ABOVE, means[name].entropy_at(step) - means[rival].entropy_at(step),
                                   ENTROPY_MARGIN) for rival in rivals}),
        matched_claim("4", (name, rivals[-1]), means, ks),
    ]


def matched_claim(number: str, pair: tuple[str, str], means: Mapping[str, Means], ks: Sequence[int]) -> Claim:
    """At the same Pass@1, along the whole path: first minus second at a middle and at the largest k, and in entropy."""
    one, other = (means[name] for name in pair)
    name = " - ".join(each.upper() for each in pair)
    curves = matched(one, other, lambda each: each.pass_at).mean(axis=1)
    entropy = matched(one, other, lambda each: each.entropy).mean(axis=1)
    # At k = 1 the difference is zero by construction.
    chosen = [i for i in (len(ks) // 2, len(ks) - 1) if i > 0]
    effects = {f"{name} at k={ks[i]}": (Kind.ABOVE, curves[:, i], MARGIN) for i in dict.fromkeys(chosen)}
    return claim(number, f"at matched Pass@1 {pair[0].upper()} keeps more breadth than {pair[1].upper()}", {
        **effects, f"{name} in entropy": (Kind.ABOVE, entropy, ENTROPY_MARGIN)})


def _slope(at: Mapping[str, np.ndarray], k: int) -> np.ndarray:
    """[B + 1]: least squares of Pass@k over the weights' places 0 to 1 in their order."""
    values = np.stack([at[name][:, k] for name in WEIGHTS])
    places = np.linspace(0, 1, len(WEIGHTS))
    centred = places - places.mean()
    return (centred[:, None] * values).sum(axis=0) / np.square(centred).sum()


def _later(means: Means, ks: Sequence[int], step: int) -> np.ndarray:
    """[B + 1]: what the steps after `step` added to the area."""
    return area(means.at(means.steps[-1]), ks) - area(means.at(step), ks)
