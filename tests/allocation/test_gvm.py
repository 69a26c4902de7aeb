"""GVM's weights: the paper's golden numbers, its limits, and less variance than alike counts."""

import itertools

import numpy as np
import pytest

from rl_reasoning.allocation import Gvm, answer_weights, apportion, sampling_weights, variance_bound

RATES, NORMS = np.array([0.125, 0.5, 1, 0]), np.array([4.0, 2, 1, 3])


def test_golden_allocation():
    weights = sampling_weights(NORMS, RATES)
    np.testing.assert_allclose(weights, [10.968170, 2.822787, 0.999500, 0], atol=5e-7)
    np.testing.assert_allclose(32 * weights / weights.sum(), [23.73026, 6.10726, 2.16248, 0], atol=5e-6)
    for rounding in ("remainder", "optimal"):
        assert Gvm(rounding=rounding).counts(NORMS, RATES, 32).tolist() == [24, 6, 2, 0]


@pytest.mark.parametrize(("alpha", "beta"), [(1e-3, 2.0), (1e-3, 3.0), (0.5, 2.0)])
def test_the_rate_that_is_given_most(alpha, beta):
    rates = np.linspace(1e-4, 1, 200_001)
    best = rates[np.argmax(sampling_weights(np.ones_like(rates), rates, alpha=alpha, beta=beta))]
    assert best == pytest.approx((alpha * (beta - 1)) ** (1 / beta), abs=1e-5)


def test_limits_and_order():
    rates = np.array([1e-300, 1e-3, 0.3, 1])
    np.testing.assert_allclose(sampling_weights(np.full(4, 3.0), rates, alpha=0), 3 / np.sqrt(rates))
    np.testing.assert_allclose(sampling_weights(np.full(4, 3.0), rates, alpha=1e-30)[1:], 3 / np.sqrt(rates[1:]))
    assert sampling_weights(np.ones(4), rates)[0] < 1e-100
    small = sampling_weights(np.full(1, 2.0), np.full(1, 1e-7), alpha=1e-3, beta=3.0)
    assert small[0] == pytest.approx(2 * 1e-7 / np.sqrt(1e-3), rel=1e-6)  # G p^((beta - 1) / 2) / sqrt(alpha)
    np.testing.assert_array_equal(sampling_weights(np.array([0.0, 1]), np.array([0.5, 0])), [0, 0])


def test_more_gradient_is_never_fewer_samples_and_the_unit_does_not_matter():
    rng = np.random.default_rng(0)
    for _ in range(50):
        norms, rates = rng.exponential(size=6), rng.random(6)
        counts = Gvm().counts(norms, rates, 48)
        np.testing.assert_array_equal(counts, Gvm().counts(1000 * norms, rates, 48))
        assert Gvm().counts(norms * np.array([1.5, 1, 1, 1, 1, 1]), rates, 48)[0] >= counts[0]


def test_the_bound_is_least_at_these_weights():
    """Cauchy and Schwarz: (sum w)^2 / N is its least value; whole numbers come close to it, alike counts do not."""
    rng = np.random.default_rng(0)
    for alpha in (0.0, 1e-3):
        norms, rates = rng.exponential(size=20), rng.uniform(0.02, 1, 20)
        weights = sampling_weights(norms, rates, alpha=alpha)
        best = variance_bound(400 * weights / weights.sum(), norms, rates, alpha=alpha)
        assert best == pytest.approx(weights.sum() ** 2 / 400)
        allocated = apportion(weights, 400, rounding="optimal")
        assert best <= variance_bound(allocated, norms, rates, alpha=alpha) < 1.01 * best
        assert variance_bound(np.full(20, 20), norms, rates, alpha=alpha) > 1.2 * best
    assert variance_bound(np.array([1, 0]), np.ones(2), np.ones(2)) == np.inf
    assert variance_bound(np.array([2, 0]), np.ones(2), np.array([0.5, 0])) == 1


def gradient_samples(rng, counts, rates, means, spread):
    """[P, D] for each of many repetitions: the sum of accepted answers' gradients of each problem."""
    repeats, size = 4000, means.shape[1]
    total = np.zeros((repeats, len(counts), size))
    for problem, count in enumerate(counts):
        accepted = rng.random((repeats, count, 1)) < rates[problem]
        noise = spread[problem] * rng.normal(size=(repeats, count, size)) / np.sqrt(size)
        total[:, problem] = (accepted * (means[problem] + noise)).sum(axis=1)
    return total


def test_monte_carlo_variance_is_below_that_of_alike_counts():
    """Problems whose gradients are known: same mean from both, less variance from the allocation."""
    rng = np.random.default_rng(0)
    rates, means = np.array([0.06, 0.2, 0.5, 0.9, 1.0]), rng.normal(size=(5, 8)) / 4
    spread = np.array([3.0, 1, 2, 0.3, 0.5])
    norms = np.sqrt(np.square(means).sum(axis=1) + np.square(spread))
    found = {}
    for name, counts in (("alike", np.full(5, 20)), ("allocated", Gvm(minimum=1).counts(norms, rates, 100))):
        sums = gradient_samples(rng, counts, rates, means, spread)
        estimates = (sums / (counts * rates)[:, None]).sum(axis=1)
        np.testing.assert_allclose(estimates.mean(axis=0), means.sum(axis=0), atol=6 * estimates.std() / 4000 ** 0.5)
        found[name] = estimates.var(axis=0).sum()
        assert found[name] < variance_bound(counts, norms, rates) * 1.05
    assert found["allocated"] < 0.75 * found["alike"]


def test_lemma_1_is_unbiased_by_enumeration():
    """Every outcome of 2 and 1 draws of two problems with three answers each, weighted by its probability."""
    probability = np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]])
    accepted = np.array([[1, 0, 1], [0, 1, 0]], bool)
    gradient = np.array([[2.0, 5, -1], [7, 3, 4]])
    counts, rates = np.array([2, 1]), (probability * accepted).sum(axis=1)
    scale = answer_weights(counts, rates) * 2 / 3  # a mean over N answers is a mean over P problems
    expected = 0.0
    for drawn in itertools.product(range(3), repeat=3):
        problems = (0, 0, 1)
        chance = np.prod([probability[i, y] for i, y in zip(problems, drawn, strict=True)])
        expected += chance * sum(scale[i] * accepted[i, y] * gradient[i, y]
                                 for i, y in zip(problems, drawn, strict=True))
    conditional = (probability * accepted * gradient).sum(axis=1) / rates
    assert expected == pytest.approx(conditional.sum())


def test_answer_weights():
    np.testing.assert_allclose(answer_weights(np.array([4, 4])), [1, 1])
    np.testing.assert_allclose(answer_weights(np.array([6, 2, 0])), [8 / 2 / 6, 8 / 2 / 2, 0])
    np.testing.assert_allclose(answer_weights(np.array([6, 2]), np.array([0.5, 0])), [8 / 2 / 3, 0])
    counts, rates = np.array([3, 5]), np.array([0.5, 0.2])
    np.testing.assert_array_equal(Gvm().answer_weights(counts, rates), [1, 1])
    np.testing.assert_array_equal(Gvm(weights="rates").answer_weights(counts, rates), answer_weights(counts, rates))


def test_what_gets_the_minimum_alone():
    norms = np.ones(3)
    rates = np.array([0.1, 0.5, 0.95])
    assert Gvm(band_low=0.2, band_high=0.9, minimum=2).counts(norms, rates, 24).tolist() == [2, 20, 2]
    # 24 * (1 / sqrt(p)) shares out 11.9, 5.9 and 4.2 (with damping): 1.2, 2.9 and 4.0 right answers are expected.
    assert Gvm(least=1.5).counts(norms, rates, 24)[0] == 0
    assert Gvm(least=0.5).counts(norms, rates, 24)[0] > 0
    assert Gvm(maximum=9).counts(norms, rates, 24).max() == 9
    assert Gvm().counts(norms, np.zeros(3), 24).tolist() == [8, 8, 8]  # nothing accepted
    assert Gvm(band_low=0.96).counts(norms, rates, 24).tolist() == [8, 8, 8]
    hopeless = np.array([0.5, 0, 0])
    assert Gvm().counts(norms, hopeless, 24, drawn=np.array([0, 4, 4])).tolist() == [16, 4, 4]


@pytest.mark.parametrize(("change", "message"), [
    ({"draws": 0}, "plan_draws is 0"), ({"alpha": -1.0}, r"alpha is -1\.0"), ({"beta": 1.0}, r"beta is 1\.0"),
    ({"minimum": 3, "maximum": 2}, "plan_maximum is 2"),
    ({"band_low": 0.9, "band_high": 0.2}, r"plan_band_low is 0\.9"),
    ({"memory": 2.0}, r"plan_memory is 2\.0"), ({"gradient": "heads"}, "plan_gradient is 'heads'; allowed: head, full"),
])
def test_options_that_cannot_be(change, message):
    with pytest.raises(ValueError, match=message):
        Gvm(**change)


@pytest.mark.parametrize(("norms", "rates", "message"), [
    ([1.0], [1.5], r"a rate is 1\.5"), ([1.0], [np.nan], "a rate is nan"), ([np.inf], [0.5], "a norm is inf")])
def test_estimates_that_cannot_be(norms, rates, message):
    with pytest.raises(ValueError, match=message):
        sampling_weights(np.array(norms), np.array(rates))
