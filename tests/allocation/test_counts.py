"""Counts: exact totals and bounds, the released code's rounding, and the best whole numbers against all there are."""

import itertools

import numpy as np
import pytest

from rl_reasoning.allocation import apportion


def random_case(rng):
    count = int(rng.integers(1, 12))
    weights = rng.exponential(size=count) ** rng.integers(1, 6) * 10.0 ** rng.integers(-9, 9)
    weights *= rng.random(count) < 0.8
    low = rng.integers(0, 4, count)
    high = low + rng.integers(0, 9, count)
    return weights, int(rng.integers(low.sum(), high.sum() + 1)), low, high


@pytest.mark.parametrize("rounding", ["remainder", "optimal"])
@pytest.mark.parametrize("seed", range(3))
def test_counts_sum_to_the_total_within_bounds_and_follow_the_weights(rounding, seed):
    rng = np.random.default_rng(seed)
    for _ in range(200):
        weights, total, low, high = random_case(rng)
        counts = apportion(weights, total, minimum=low, maximum=high, rounding=rounding)
        assert counts.dtype == np.int64
        assert counts.sum() == total
        assert ((counts >= low) & (counts <= high)).all()
        np.testing.assert_array_equal(counts, apportion(3.7 * weights, total, minimum=low, maximum=high,
                                                        rounding=rounding))
        free = apportion(weights, total, rounding=rounding)
        assert free.sum() == total
        for i, j in itertools.permutations(range(len(weights)), 2):
            assert not (weights[i] > weights[j] and free[i] < free[j])
        if weights.any():
            assert not free[weights == 0].any()


def released(weights, total):
    """The rule of the released code: round half to even, then mend the total at the largest residuals."""
    shares = total * weights / weights.sum()
    counts = np.round(shares)
    error = int(total - counts.sum())
    residual = shares - counts
    for place in np.argsort(-residual if error > 0 else residual)[:abs(error)]:
        counts[place] += np.sign(error)
    return counts


def test_remainders_give_what_the_released_code_gives():
    rng = np.random.default_rng(0)
    for _ in range(300):
        weights, total = rng.exponential(size=rng.integers(1, 40)) + 1e-9, int(rng.integers(1, 300))
        counts = apportion(weights, total)
        np.testing.assert_array_equal(counts, released(weights, total))
        assert (np.abs(counts - total * weights / weights.sum()) < 1).all()


def bounded_counts(total, low, high):
    """Every row of whole numbers within bounds that sums to the total."""
    for counts in itertools.product(*(range(a, b + 1) for a, b in zip(low, high, strict=True))):
        if sum(counts) == total:
            yield np.array(counts)


def bound(weights, counts):
    with np.errstate(divide="ignore"):
        return (np.square(weights) / counts).sum()


def test_optimal_is_the_best_of_all_whole_numbers():
    rng = np.random.default_rng(0)
    for _ in range(60):
        weights, low = rng.exponential(size=4) ** 2 + 1e-3, rng.integers(0, 2, 4)
        high = low + rng.integers(1, 7, 4)
        total = int(rng.integers(low.sum() + 4, max(high.sum(), low.sum() + 4) + 1))
        if total > high.sum() or total < 4:
            continue
        best = min(bound(weights, counts) for counts in bounded_counts(total, low, high))
        found = apportion(weights, total, minimum=low, maximum=high, rounding="optimal")
        assert bound(weights, found) == pytest.approx(best, rel=1e-12)
        rounded = apportion(weights, total, minimum=low, maximum=high)
        assert bound(weights, rounded) >= best * (1 - 1e-12)


def test_fractions_within_bounds_are_the_best_fractions():
    """With a large total, moving a few samples from any problem to any other never helps."""
    weights, total = np.array([5.0, 1.0, 0.2, 3.0]), 100_000
    low, high = np.array([0, 20_000, 10, 0]), np.array([30_000, 60_000, 90_000, 100_000])
    counts = apportion(weights, total, minimum=low, maximum=high)
    np.testing.assert_array_equal(counts[[0, 1]], [30_000, 20_000])
    for i, j in itertools.permutations(range(4), 2):
        step = np.zeros(4, int)
        step[i], step[j] = -5, 5
        if ((counts + step >= low) & (counts + step <= high)).all():
            assert bound(weights, counts + step) > bound(weights, counts)


@pytest.mark.parametrize("rounding", ["remainder", "optimal"])
def test_weights_of_zero(rounding):
    """All of them: alike. Some: theirs is what the others may not take."""
    assert apportion(np.zeros(3), 8, rounding=rounding).tolist() == [3, 3, 2]
    assert apportion(np.zeros(2), 5, minimum=[4, 0], rounding=rounding).tolist() == [4, 1]
    assert apportion(np.array([2.0, 0, 1, 0]), 10, maximum=3, rounding=rounding).tolist() == [3, 2, 3, 2]
    assert apportion(np.array([2.0, 0]), 5, minimum=1, rounding=rounding).tolist() == [4, 1]
    assert apportion(np.array([1e-300, 1.0, 1e300]), 6, minimum=2, rounding=rounding).tolist() == [2, 2, 2]
    assert apportion(np.zeros(0), 0, rounding=rounding).tolist() == []


def test_fewer_samples_than_problems_go_to_the_largest_weights():
    assert apportion(np.array([1.0, 3, 2]), 2, rounding="optimal").tolist() == [0, 1, 1]
    assert apportion(np.array([1.0, 3, 2]), 2).tolist() == [0, 1, 1]


@pytest.mark.parametrize(("change", "message"), [
    ({"weights": [1, np.nan]}, "a weight is nan"), ({"weights": [1, -2.0]}, r"a weight is -2\.0"),
    ({"total": 3, "minimum": 2}, "total is 3; allowed: from 4"), ({"maximum": 2}, "to 4, that of the maxima"),
    ({"minimum": -1}, "total is 8"), ({"rounding": "half"}, "rounding is 'half'; allowed: remainder, optimal"),
])
def test_what_cannot_be_is_named(change, message):
    arguments = {"weights": [1, 1], "total": 8} | change
    with pytest.raises(ValueError, match=message):
        apportion(np.array(arguments.pop("weights"), float), arguments.pop("total"), **arguments)
