"""Verdicts on synthetic policies whose truth is known."""

import numpy as np
import pytest

from rl_reasoning.evaluation.claims import WEIGHTS, judge_method, judge_negative_reinforcement, matched_claim
from rl_reasoning.evaluation.pass_at_k import pass_at_k
from rl_reasoning.evaluation.paths import GRID, Path, area, matched, resample
from rl_reasoning.evaluation.verdicts import Claim, Effect, Kind, Verdict, claim, verdict_rows

KS, SAMPLES, STEPS = (1, 4, 16, 64), 64, (0, 35, 70)
FAR = 140


def simulate(moves, seed, seeds=4, problems=150):
    """Paths of policies that answer problem p rightly with chance sigmoid(-1.5 + difficulty * spread + shift).

    Args: moves: {name: (shift, spread, entropy) at step 70}, reached in straight lines, and by "<name> later" at 140.
    A larger shift helps at every k; a larger spread helps the easy problems and loses the hard ones.
    """
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(0, 1.8, problems) + rng.normal(0, 0.1, (seeds, problems))
    paths = {}
    for name, end in moves.items():
        if name.endswith(" later"):
            continue
        points = [(step / 70 * end[0], 1 + step / 70 * (end[1] - 1), end[2] * step / 70) for step in STEPS]
        steps = STEPS
        if f"{name} later" in moves:
            points, steps = [*points, moves[f"{name} later"]], (*STEPS, FAR)
        pass_at = np.stack([pass_at_k(rng.binomial(SAMPLES, 1 / (1 + np.exp(1.5 - difficulty * spread - shift))),
                                      np.full((seeds, problems), SAMPLES), KS) for shift, spread, _ in points], axis=1)
        entropy = np.stack([0.3 + change + rng.normal(0, 0.02, (seeds, problems)) for *_, change in points], axis=1)
        paths[name] = Path(steps, pass_at, entropy)
    return paths


def moved(psr, nsr, weights, others, nsr_later, weighted_later):
    return {"psr": psr, "nsr": nsr, **dict(zip(WEIGHTS, weights, strict=True)),
            **dict.fromkeys(("reinforce", "grpo", "ppo"), others),
            "nsr later": nsr_later, "w_0.1 later": weighted_later}


# As published: PSR sharpens, NSR lifts everything and keeps entropy, the weight goes from one to the other.
PUBLISHED = moved((0.3, 2.2, -0.1), (0.5, 1.0, 0.0),
                  [(0.5, 1.0, 0), (0.65, 1.0, 0), (0.8, 1.05, 0), (0.9, 1.5, 0), (1.0, 2.2, 0)], (0.3, 2.0, -0.08),
                  nsr_later=(0.0, 1.0, 0.1), weighted_later=(0.9, 1.05, 0))
# The opposite: NSR sharpens and loses entropy, more weight keeps breadth, long training only helps NSR.
REVERSED = moved((0.5, 1.0, 0.0), (0.3, 2.2, -0.1),
                 [(1.0, 2.2, 0), (0.9, 1.5, 0), (0.3, 2.4, 0), (0.65, 1.0, 0), (0.5, 1.0, 0)], (0.5, 1.0, 0.02),
                 nsr_later=(0.6, 2.0, -0.1), weighted_later=(-0.2, 2.4, 0))


@pytest.mark.parametrize(("moves", "expected"), [(PUBLISHED, Verdict.HOLDS), (REVERSED, Verdict.FAILS)])
def test_seven_claims_on_policies_for_which_all_are_true_or_none_is(moves, expected):
    found = judge_negative_reinforcement(simulate(moves, seed=0), KS, step=70, resamples=300)
    assert [each.number for each in found] == list("1234567")
    verdicts = {each.number: each.verdict for each in found}
    if expected is Verdict.FAILS:
        # The second claim has a half that is true of the reversed policies: PSR is above the base at k = 1.
        assert found[1].effects[0].verdict is Verdict.HOLDS
    assert verdicts == dict.fromkeys("1234567", expected), verdict_rows(found)


def test_two_speeds_on_one_path_are_no_difference():
    """NSR goes half as far as PSR on the same way: at the same steps they differ, at matched Pass@1 they do not."""
    way = (0.6, 1.6, -0.1)
    half = (0.3, 1.3, -0.05)
    same_steps, false_alarms = [], 0
    for seed in range(20):
        paths = simulate({"psr": way, "nsr": half}, seed)
        means = resample(paths, 200, seed=seed)
        same_steps.append(float((means["psr"].at(70) - means["nsr"].at(70))[0, 0]))
        false_alarms += matched_claim("7", ("nsr", "psr"), means, KS).verdict is Verdict.HOLDS
    assert min(same_steps) > 0.02
    assert false_alarms <= 2


def test_matched_reads_both_paths_at_the_same_pass_at_1():
    """Two straight paths in closed form: y = x and y = 3 x over the gain that both reach."""
    def path(gains, slope):
        x = np.asarray(gains)
        return Path(tuple(range(len(gains))), np.stack([x, slope * x], axis=1)[None, :, None, :].repeat(6, axis=2),
                    np.zeros((1, len(gains), 6)))

    means = resample({"one": path([0.1, 0.2, 0.3], 1.0), "other": path([0.1, 0.15, 0.12, 0.25], 3.0)}, 5, seed=0)
    found = matched(means["one"], means["other"], lambda each: each.pass_at)
    levels = 0.1 + 0.15 * (np.arange(GRID) + 1) / GRID
    np.testing.assert_allclose(found[..., 0], 0.0, atol=1e-12)
    np.testing.assert_allclose(found[0, :, 1], -2 * levels)


def test_paths_without_a_common_gain_are_not_compared():
    still = Path((0, 1), np.full((2, 2, 5, 2), 0.5), np.zeros((2, 2, 5)))
    means = resample({"one": still, "other": still}, 10, seed=0)
    assert np.isnan(matched(means["one"], means["other"], lambda each: each.pass_at)).all()
    assert matched_claim("7", ("one", "other"), means, (1, 2)).verdict is Verdict.UNDECIDED


def test_resampling_pairs_problems_and_seeds():
    """A difference that is the same for every problem and seed has no spread, however much these differ."""
    rng = np.random.default_rng(0)
    values = rng.random((3, 2, 20, 2))
    paths = {"one": Path((0, 1), values + 0.1, values[..., 0]), "other": Path((0, 1), values, values[..., 0])}
    means = resample(paths, 50, seed=0)
    np.testing.assert_allclose(means["one"].pass_at - means["other"].pass_at, 0.1)
    np.testing.assert_allclose(means["other"].pass_at[0], values.mean(axis=(0, 2)))
    assert means["other"].pass_at[1:].std(axis=0).min() > 0.01
    with pytest.raises(ValueError, match="same seeds, problems and ks"):
        resample(paths | {"third": Path((0, 1), values[:2], values[:2, ..., 0])}, 5, seed=0)


def test_area_is_the_mean_over_log_k():
    assert area(np.array([0.0, 0.5, 1.0]), (1, 2, 4)) == pytest.approx(0.5)
    assert area(np.array([0.0, 0.0, 1.0]), (1, 2, 8)) == pytest.approx(1 / 3)


@pytest.mark.parametrize(("kind", "low", "high", "expected"), [
    (Kind.ABOVE, 0.001, 0.5, "holds"), (Kind.ABOVE, -0.5, 0.005, "does not hold"), (Kind.ABOVE, -0.1, 0.1, "undecided"),
    (Kind.NOT_BELOW, -0.005, 0.1, "holds"), (Kind.NOT_BELOW, -0.1, -0.02, "does not hold"),
    (Kind.NOT_BELOW, -0.1, 0.1, "undecided"), (Kind.NOT_BELOW, np.nan, np.nan, "undecided")])
def test_an_effect_s_verdict(kind, low, high, expected):
    assert Effect("x", kind, 0.0, low, high, margin=0.01).verdict == expected


def test_a_claim_needs_all_its_effects_and_widens_their_intervals():
    good, bad = (Effect("x", Kind.ABOVE, 0, low, low + 0.1, 0.01) for low in (0.1, -0.2))
    open_ = Effect("x", Kind.ABOVE, 0, -0.1, 0.1, 0.01)
    assert [Claim("1", "", effects).verdict for effects in ((good, good), (good, open_), (good, open_, bad))] == [
        "holds", "undecided", "does not hold"]
    drawn = np.concatenate([[0.0], np.linspace(-1, 1, 2001)])
    alone, two = (claim("1", "", {str(i): (Kind.ABOVE, drawn, 0.1) for i in range(count)}).effects[0].high
                  for count in (1, 2))
    assert (alone, two) == (pytest.approx(0.95), pytest.approx(0.975))


def test_a_missing_path_is_named():
    with pytest.raises(ValueError, match=r"the paths of grpo, nsr.* are missing"):
        judge_negative_reinforcement({"psr": Path((0,), np.zeros((1, 1, 2, 2)), np.zeros((1, 1, 2)))}, (1, 2), 0)


@pytest.mark.parametrize(("name", "rival", "expected"), [
    ("pacs", "grpo", Verdict.HOLDS), ("grpo", "pacs", Verdict.FAILS)])
def test_a_method_that_is_better_in_every_way_and_its_reverse(name, rival, expected):
    paths = simulate({"pacs": (0.9, 1.1, 0.0), "ppo": (0.3, 2.0, -0.1), "grpo": (0.2, 1.8, -0.1)}, seed=1)
    found = judge_method(name, (rival,), paths, KS, 70, resamples=300)
    assert [each.verdict for each in found] == [expected] * 4, verdict_rows(found)
