"""Breadth at matched Pass@1: sides in closed form, and paths whose truth is known."""

import numpy as np
import pytest

from rl_reasoning.evaluation.breadth import Difference, Side, best_gain, differences, matched_curves, pooled
from rl_reasoning.evaluation.paths import Path

KS, NAN = (1, 16, 64), float("nan")


@pytest.mark.parametrize(("low", "high", "side"), [
    (0.001, 0.1, Side.ABOVE), (-0.1, -0.001, Side.BELOW), (-0.02, 0.02, Side.TIE), (-0.021, 0.01, Side.UNDECIDED),
    (-0.01, 0.021, Side.UNDECIDED), (NAN, NAN, Side.UNDECIDED), (0.001, 0.01, Side.ABOVE)])
def test_sides(low, high, side):
    assert Difference(16, 0.0, low, high, 0.02).side is side


def path(way, speed, seed, noise=0.02):
    """[2, 4, 60, 3]: Pass@1 rises by 0.03 a step times `speed`, and Pass@16, Pass@64 by `way` of that; each problem
    has its own level, and its own noise at each evaluation."""
    rng = np.random.default_rng(seed)
    level = np.random.default_rng(0).uniform(0.2, 0.4, (2, 1, 60, 1))
    gain = 0.03 * speed * np.arange(4)[None, :, None, None] * np.asarray([1.0, *way])
    values = level + gain + rng.normal(0, noise, (2, 4, 60, 3))
    values[:, 0] = level[:, 0]
    return Path((0, 1, 2, 3), values, np.zeros((2, 4, 60)))


def sides(one, other, margin=0.02):
    found = differences(matched_curves(one, other, 300, seed=1), KS, (16, 64), margin)
    assert [each.k for each in found] == [16, 64]
    return [each.side for each in found]


def test_another_speed_on_the_same_way_is_a_tie_and_another_way_is_not():
    psr, nsr = path((-1.0, -2.0), 2.0, seed=2), path((-1.0, -2.0), 1.0, seed=3)
    at_the_end = (nsr.pass_at[:, -1] - psr.pass_at[:, -1]).mean(axis=(0, 1))
    assert at_the_end[2] > 0.15  # the slower one has lost less, after as many steps
    assert sides(nsr, psr) == [Side.TIE, Side.TIE]
    assert sides(nsr, psr, margin=0.0005) == [Side.UNDECIDED, Side.UNDECIDED]
    broader = path((-1.0, 1.0), 1.0, seed=4)
    assert sides(broader, psr) == [Side.TIE, Side.ABOVE]
    assert sides(psr, broader) == [Side.TIE, Side.BELOW]
    # Both reach NSR's 9 points; the levels that are compared lie from 1/16 of it to all, at 17/32 of it on average.
    [_, far] = differences(matched_curves(broader, psr, 50, seed=1), KS, (16, 64), 0.02)
    assert far.mean == pytest.approx(3 * 0.09 * 17 / 32, abs=0.01)
    assert [best_gain(psr), best_gain(broader)] == pytest.approx([0.18, 0.09], abs=0.01)


def test_without_a_common_gain_nothing_is_decided_and_nothing_is_pooled():
    rising, falling = path((0.0, 0.0), 1.0, seed=5), path((0.0, 0.0), -1.0, seed=6)
    nothing = matched_curves(rising, falling, 100, seed=1)
    assert [each.side for each in differences(nothing, KS, (64,), 0.02)] == [Side.UNDECIDED]
    assert best_gain(falling) == 0
    something = matched_curves(path((0.0, 1.0), 1.0, seed=7), rising, 100, seed=1)
    np.testing.assert_array_equal(pooled({"a": nothing, "b": something}), something)
    np.testing.assert_allclose(pooled({"a": something, "b": -something}), 0, atol=1e-12)
    assert np.isnan(pooled({"a": nothing})[0]).all()
