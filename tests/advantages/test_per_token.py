import functools

import jax
import numpy as np
import pytest

from rl_reasoning import advantages
from tests.compiling import COMPILE_FAST

NAN = float("nan")
compiled = functools.partial(jax.jit, compiler_options=COMPILE_FAST)
gae = compiled(advantages.gae, static_argnames=("discount", "gae_lambda", "whitened"))
reinforce_plus_plus = compiled(advantages.reinforce_plus_plus, static_argnames="discount")
reinforce_plus_plus_baseline = compiled(advantages.reinforce_plus_plus_baseline, static_argnames="ddof")
whiten = compiled(advantages.whiten, static_argnames=("ddof", "epsilon"))


def definition(rewards, values, mask, discount, lam):
    """The quadratic sum over later valid tokens, row by row."""
    out = np.zeros(mask.shape)
    for i, keep in enumerate(mask):
        index = np.flatnonzero(keep)
        v = np.append(values[i, index], 0.0)
        r = np.zeros(len(index))
        if len(index):
            r[-1] = rewards[i]
        delta = r + discount * v[1:] - v[:-1]
        for a, t in enumerate(index):
            out[i, t] = sum((discount * lam) ** (b - a) * delta[b] for b in range(a, len(index)))
    return out


@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_equals_the_definition_also_across_holes(lam, discount, batch):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 6)).astype(np.float32)
    inputs = batch([1.0, 0.0, 0.5], lengths=[6, 3, 4], length=6)
    mask = inputs.mask.copy()
    mask[0, 2] = mask[2, 0] = False
    inputs = inputs._replace(mask=mask, values=np.where(mask, values, NAN))
    result = gae(inputs, discount=discount, gae_lambda=lam, whitened=False)
    truth = definition(inputs.rewards, values, mask, discount, lam)
    np.testing.assert_allclose(result.values, truth, atol=1e-6)
    np.testing.assert_allclose(result.returns, np.where(mask, truth + values, 0), atol=1e-6)


def test_closed_form_of_a_terminal_reward(batch):
    values = np.array([[0.3, -0.2, 0.7]], np.float32)
    result = gae(batch([2.0], values=values), gae_lambda=1.0, whitened=False)
    np.testing.assert_allclose(result.values, 2.0 - values, rtol=1e-6)
    np.testing.assert_allclose(result.returns, [[2.0, 2.0, 2.0]], rtol=1e-6)


def test_token_rewards_are_added_and_unscorable_rows_left_out(batch):
    """T18: a row without a reward has weight 0 and does not move the whitening."""
    inputs = batch([1.0, NAN, 0.0], lengths=[3, 3, 2], values=np.zeros((3, 3), np.float32),
                   token_rewards=np.array([[-0.1, -0.2, -0.3], [NAN, 0, 0], [-0.5, 0.25, NAN]], np.float32))
    plain = gae(inputs, gae_lambda=1.0, whitened=False)
    np.testing.assert_allclose(plain.values, [[0.4, 0.5, 0.7], [0, 0, 0], [-0.25, 0.25, 0]], atol=1e-6)
    np.testing.assert_array_equal(plain.weights, [1, 0, 1])
    used = np.asarray(plain.values)[[0, 0, 0, 2, 2], [0, 1, 2, 0, 1]]
    white = np.asarray(gae(inputs, gae_lambda=1.0).values)
    np.testing.assert_allclose(white[0], (used[:3] - used.mean()) / used.std(ddof=1), rtol=1e-5)
    np.testing.assert_allclose(gae(inputs, gae_lambda=1.0).returns, plain.returns)


def test_whitening():
    rng = np.random.default_rng(1)
    mask = rng.random((4, 5)) < 0.6
    white = np.asarray(whiten(np.where(mask, rng.normal(3, 2, (4, 5)), NAN), mask))
    np.testing.assert_allclose((white[mask].mean(), white[mask].std(ddof=1)), (0, 1), atol=1e-5)
    assert not white[~mask].any()


@pytest.mark.parametrize("mask", [np.zeros((2, 2), bool), np.array([[True, False], [False, False]]),
                                  np.ones((2, 2), bool)])
def test_whitening_of_equal_values_is_zero(mask):
    """T17, T19: nothing to compare gives exactly 0."""
    assert not np.any(whiten(np.full((2, 2), 0.1, np.float32), mask))


def test_bad_options(batch):
    with pytest.raises(ValueError, match=r"gae_lambda is 1\.5; allowed: 0 <= gae_lambda <= 1"):
        gae(batch([1]), gae_lambda=1.5)
    with pytest.raises(ValueError, match=r"values is None.*estimator gae"):
        gae(batch([1]))


@pytest.mark.parametrize(("ddof", "expected"), [(1, [1.1370705, -1.4213381, -0.1421338]),
                                                (0, [1.2060454, -1.5075567, -0.1507557])])
def test_reinforce_plus_plus_baseline_golden(ddof, expected, batch):
    inputs = batch([1, 0, 0.5], lengths=[3, 2, 4], length=4)
    values = reinforce_plus_plus_baseline(inputs, ddof=ddof).values
    np.testing.assert_allclose(values, np.array(expected)[:, None] * inputs.mask, atol=2e-6)
    used = np.asarray(values)[inputs.mask]
    np.testing.assert_allclose((used.mean(), used.std(ddof=ddof)), (0, 1), atol=1e-5)


def test_reinforce_plus_plus_whitens_returns(batch):
    inputs = batch([1, 0], lengths=[3, 2], token_rewards=np.array([[-0.1, -0.2, -0.3], [0.5, -0.5, NAN]], np.float32))
    returns = np.array([-0.1 + 0.5 * (-0.2 + 0.5 * 0.7), -0.2 + 0.5 * 0.7, 0.7, 0.5 - 0.25, -0.5])
    values = np.asarray(reinforce_plus_plus(inputs, discount=0.5).values)[inputs.mask]
    np.testing.assert_allclose(values, (returns - returns.mean()) / returns.std(ddof=1), rtol=1e-5)


def test_reinforce_plus_plus_baseline_sums_token_rewards_to_the_end(batch):
    inputs = batch([1, 0], lengths=[2, 1], length=2, token_rewards=np.array([[-0.1, -0.2], [-0.3, NAN]], np.float32))
    returns = np.array([0.5 - 0.3, 0.5 - 0.2, -0.5 - 0.3])
    values = np.asarray(reinforce_plus_plus_baseline(inputs).values)[inputs.mask]
    np.testing.assert_allclose(values, (returns - returns.mean()) / returns.std(ddof=1), rtol=1e-5)


def test_bad_options_of_reinforce_plus_plus(batch):
    with pytest.raises(ValueError, match="discount is 2; allowed: 0 <= discount <= 1"):
        reinforce_plus_plus(batch([1]), discount=2)
    with pytest.raises(ValueError, match="ddof is 2; allowed: 0, 1"):
        reinforce_plus_plus_baseline(batch([1]), ddof=2)
