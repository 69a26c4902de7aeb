"""Pass@k against enumeration and closed forms, and its intervals against a known truth."""

import itertools
import math

import numpy as np
import pytest

from rl_reasoning.evaluation.pass_at_k import (
    bootstrap_interval,
    paired_difference,
    pass_at_k,
    pass_at_k_summary,
    powers_of_two,
)


def by_enumeration(right: int, total: int, k: int) -> float:
    """Share of all subsets of k answers that contain a right one."""
    subsets = list(itertools.combinations([index < right for index in range(total)], k))
    return sum(any(subset) for subset in subsets) / len(subsets)


def test_golden_value():
    # 1 - C(7, 4) / C(10, 4) = 1 - 35 / 210
    np.testing.assert_allclose(pass_at_k([3], [10], [4]), [[1 - 35 / 210]], rtol=1e-15)
    assert f"{pass_at_k([3], [10], [4])[0, 0]:.6f}" == "0.833333"


@pytest.mark.parametrize("total", range(1, 8))
def test_equals_the_share_of_all_subsets(total):
    rights = np.arange(total + 1)
    ks = range(1, total + 1)
    expected = [[by_enumeration(right, total, k) for k in ks] for right in rights]
    np.testing.assert_allclose(pass_at_k(rights, np.full(total + 1, total), list(ks)), expected, atol=1e-15)


def test_ends_are_the_mean_and_whether_any_is_right():
    right, total = np.arange(33), np.full(33, 32)
    values = pass_at_k(right, total, [1, 32])
    np.testing.assert_allclose(values[:, 0], right / 32, atol=1e-15)
    np.testing.assert_array_equal(values[:, 1], right > 0)


def test_large_n_neither_overflows_nor_leaves_the_unit_interval():
    right = np.arange(1025)
    values = pass_at_k(right, np.full(1025, 1024), powers_of_two(1024))
    assert np.isfinite(values).all()
    assert values.min() == 0.0
    assert values.max() == 1.0
    exact = [1 - math.comb(1024 - 5, k) / math.comb(1024, k) for k in powers_of_two(1024)]
    np.testing.assert_allclose(values[5], exact, atol=1e-13)


def test_grows_with_k_and_with_right_answers():
    values = pass_at_k(np.arange(65), np.full(65, 64), range(1, 65))
    assert (np.diff(values, axis=0) >= 0).all()
    assert (np.diff(values, axis=1) >= -1e-15).all()


def test_unbiased_over_the_binomial():
    """The mean over c ~ Binomial(n, p) is 1 - (1 - p)^k, which dividing by counts at k = n alone would miss."""
    n, p = 12, 0.23
    chance = np.array([math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)])
    values = pass_at_k(np.arange(n + 1), np.full(n + 1, n), [1, 3, 12])
    np.testing.assert_allclose(chance @ values, [1 - (1 - p) ** k for k in (1, 3, 12)], rtol=1e-12)


def test_leading_axes_and_unequal_totals():
    right, total = np.array([[1, 2], [0, 4]]), np.array([[4, 8], [4, 8]])
    values = pass_at_k(right, total, [1, 2, 4])
    assert values.shape == (2, 2, 3)
    for seed, problem, place in itertools.product(range(2), range(2), range(3)):
        expected = by_enumeration(right[seed, problem], total[seed, problem], (1, 2, 4)[place])
        assert values[seed, problem, place] == pytest.approx(expected)


def test_unscorable_answers_are_left_out_and_not_wrong():
    """Two right of four valid is one half, however many more could not be checked."""
    assert pass_at_k([2], [4], [1])[0, 0] == 0.5


@pytest.mark.parametrize(
    ("right", "total", "ks", "message"),
    [
        ([1, 1], [8, 3], [4], "problem 1 has 3: ask for k up to 3"),
        ([1], [0], [1], "problem 0 has 1 right of 0"),
        ([0], [0], [1], "problem 0 has 0"),
        ([-1], [4], [1], "problem 0 has -1 right of 4"),
        ([5], [4], [1], "problem 0 has 5 right of 4"),
        ([1], [4], [0], "at least 1"),
        ([1], [4], [], "at least 1"),
        ([1], [4], [1.5], "whole numbers"),
        ([], [], [1], "at least one problem"),
    ],
)
def test_bad_counts_are_refused_by_name(right, total, ks, message):
    with pytest.raises(ValueError, match=message):
        pass_at_k(right, total, ks)


def test_powers_of_two():
    assert powers_of_two(1) == (1,)
    assert powers_of_two(8) == (1, 2, 4, 8)
    assert powers_of_two(10) == (1, 2, 4, 8, 10)
    assert powers_of_two(256, at_most=255) == (1, 2, 4, 8, 16, 32, 64, 128)
    with pytest.raises(ValueError, match="samples is 0"):
        powers_of_two(0)


def test_bootstrap_covers_a_known_truth():
    """About 95 of 100 intervals contain the Bernoulli mean; 0.90 to 0.99 over 300 seeded experiments."""
    generator, truth = np.random.default_rng(0), 0.3
    hits = 0
    for experiment in range(300):
        low, high = bootstrap_interval(generator.binomial(1, truth, size=(80, 1)), 400, seed=experiment)
        hits += low[0] <= truth <= high[0]
    assert 0.90 <= hits / 300 <= 0.99


def test_bootstrap_width_is_the_standard_error():
    values = np.random.default_rng(1).normal(size=(400, 2))
    low, high = bootstrap_interval(values, 4000, seed=0)
    np.testing.assert_allclose(high - low, 2 * 1.96 * values.std(axis=0) / 20, rtol=0.06)


def test_bootstrap_is_deterministic_and_keeps_each_k_together():
    values = np.random.default_rng(2).random((30, 3))
    first, second = bootstrap_interval(values, 200, seed=5), bootstrap_interval(values, 200, seed=5)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, bootstrap_interval(values, 200, seed=6))
    alone = bootstrap_interval(values[:, 1:2], 200, seed=5)
    np.testing.assert_array_equal([first[0][1], first[1][1]], [alone[0][0], alone[1][0]])


def test_permuted_problems_move_the_ends_by_noise_only():
    values = np.random.default_rng(3).random((200, 1))
    here = np.array(bootstrap_interval(values, 2000, seed=0))
    there = np.array(bootstrap_interval(values[::-1], 2000, seed=0))
    width = here[1] - here[0]
    assert (np.abs(here - there) < 0.15 * width).all()


def test_seeds_widen_the_interval_by_their_spread():
    problems = np.random.default_rng(4).random((60, 1))
    one = bootstrap_interval(problems, 1000, seed=0)
    same = bootstrap_interval(np.stack([problems] * 4), 1000, seed=0)
    apart = bootstrap_interval(np.stack([problems + shift for shift in (-0.3, -0.1, 0.1, 0.3)]), 1000, seed=0)
    np.testing.assert_allclose(np.subtract(*same[::-1]), np.subtract(*one[::-1]), rtol=0.1)
    assert np.subtract(*apart[::-1]) > 1.5 * np.subtract(*one[::-1])


def test_paired_difference_cancels_what_both_sides_share():
    """Hard and easy problems differ far more than the two policies do: only the pairing shows the change."""
    generator = np.random.default_rng(5)
    before = generator.random((100, 1))
    after = before + 0.02 + 0.01 * generator.standard_normal((100, 1))
    mean, low, high = paired_difference(after, before)
    assert mean[0] == pytest.approx((after - before).mean())
    assert 0.0 < low[0] < 0.02 < high[0] < 0.03
    swapped = paired_difference(before, after)
    np.testing.assert_allclose([swapped.low, swapped.high], [-high, -low], atol=1e-12)


def test_paired_difference_of_a_policy_with_itself_is_exactly_zero():
    values = np.random.default_rng(6).random((20, 2))
    assert np.array(paired_difference(values, values)).tolist() == np.zeros((3, 2)).tolist()


def test_paired_difference_allows_unequal_numbers_of_seeds():
    values = np.random.default_rng(7).random((3, 20, 2))
    result = paired_difference(values, values[:1])
    np.testing.assert_allclose(result.mean, values.mean(axis=(0, 1)) - values[0].mean(axis=0))


@pytest.mark.parametrize(
    ("values", "resamples", "level", "message"),
    [
        (np.zeros(3), 10, 0.95, r"\[P, K\] or \[S, P, K\]"),
        (np.zeros((0, 3)), 10, 0.95, "not empty"),
        (np.full((2, 1), np.nan), 10, 0.95, "finite"),
        (np.zeros((2, 1)), 0, 0.95, "resamples is 0"),
        (np.zeros((2, 1)), 10, 95.0, "level is 95.0"),
    ],
)
def test_bad_bootstrap_arguments_are_refused(values, resamples, level, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, resamples, 0, level)


def test_paired_difference_refuses_other_problems():
    with pytest.raises(ValueError, match="same problems"):
        paired_difference(np.zeros((3, 1)), np.zeros((4, 1)))


def test_summary_has_every_k_that_can_be_estimated():
    summary = pass_at_k_summary(np.array([0, 4, 2]), np.array([8, 8, 7]), samples=8, resamples=100, seed=0)
    assert list(summary) == ["1", "2", "4"]
    mean, low, high = summary["1"]
    assert mean == pytest.approx((0 + 4 / 8 + 2 / 7) / 3)
    assert low <= mean <= high
