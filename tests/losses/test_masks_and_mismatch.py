"""Masks and mismatch corrections on the worked example, and the enumeration that shows which weights are unbiased."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning import losses
from rl_reasoning.losses import clipped, importance_weights, keep_tokens, rejection_mask, scale_terms

PPO = ([-0.1227968, -0.0823131, 0], [0.1426695, 0], [-0.0528461, 0, -0.0555556, -0.0454850])
TIS = ([1.2214028, 0.9048374, 2], [0.4493290, 1.0512711], [1.3498588, 1.1051709, 0.6703200, 1.8221188])
TIS_GRADIENT = ([-0.1499843, -0.0744800, 0], [0.0641055, 0], [-0.0713347, 0, -0.0372400, -0.0828791])
BYPASS_GRADIENT = ([-0.1499843, -0.0744800, -0.2222222], [0.0641055, 0.0641055],
                   [-0.0713347, -0.0915956, -0.0372400, -0.0828791])


@pytest.fixture
def sampler(example, sampler_log_ratio):
    """The example's log-probabilities under the sampler."""
    return example.old_logp - sampler_log_ratio


def keeping(keep, denominator="all"):
    return lambda inputs: keep_tokens(clipped(inputs), jnp.asarray(keep), denominator=denominator)


def weighing(weights, surrogate=clipped):
    return lambda inputs: scale_terms(surrogate(inputs), weights)


def filled(ragged, rows):
    return np.nan_to_num(ragged(*rows))


def test_entropy_quantile_golden(example, loss_and_gradient, ragged):
    keep = losses.entropy_quantile_mask(example.entropy, example.mask, share=0.4)
    value, gradient = loss_and_gradient(keeping(keep), example)
    np.testing.assert_allclose(value, -0.0517954, atol=1e-7)
    expected = filled(ragged, ([0, -0.0823131, 0], [0.1426695, 0], [0, 0, 0, -0.0454850]))
    np.testing.assert_allclose(gradient, expected, atol=1e-7)


def test_entropy_quantile_limits(example):
    everything = losses.entropy_quantile_mask(example.entropy, example.mask, share=1.0)
    np.testing.assert_array_equal(everything, example.mask)
    largest = losses.entropy_quantile_mask(example.entropy, example.mask, share=0.0)
    np.testing.assert_array_equal(largest, np.nan_to_num(example.entropy) == 2.2)
    ties = losses.entropy_quantile_mask(np.where(example.mask, 0.7, np.nan), example.mask, share=0.1)
    np.testing.assert_array_equal(ties, example.mask)
    assert not losses.entropy_quantile_mask(example.entropy, example.mask & False).any()


def test_kept_tokens_may_leave_the_denominator(example, loss_and_gradient):
    keep = example.rewards[:, None] * example.mask > 0.7
    every, _ = loss_and_gradient(keeping(keep), example)
    only, _ = loss_and_gradient(keeping(keep, "kept"), example)
    np.testing.assert_allclose(only, every * 9 / 3)
    only, _ = loss_and_gradient(keeping(keep, "kept"), example, "sequence_mean_token_mean")
    every, _ = loss_and_gradient(keeping(keep), example, "sequence_mean_token_mean")
    np.testing.assert_allclose(only, every * 3)


def test_off_policy_mask_golden(example, loss_and_gradient, ragged):
    fields = (example.logp, example.old_logp, example.advantages, example.mask)
    value, gradient = loss_and_gradient(keeping(losses.off_policy_mask(*fields, threshold=0.1)), example)
    np.testing.assert_allclose(value, -0.5589966, atol=1e-7)
    expected = filled(ragged, PPO)
    expected[1] = 0
    np.testing.assert_allclose(gradient, expected, atol=1e-7)
    np.testing.assert_array_equal(losses.off_policy_mask(*fields, threshold=0.2), example.mask)
    positive = losses.off_policy_mask(example.logp, example.logp + 9, np.ones((3, 4)), example.mask, threshold=0.1)
    np.testing.assert_array_equal(positive, example.mask)


def test_truncated_answers_leave_the_loss(example):
    keep = losses.finished_mask(example.mask, np.array([True, False, True]))
    np.testing.assert_array_equal(keep.sum(axis=1), [3, 0, 4])


def test_token_weights_golden(example, sampler, loss_and_gradient, ragged):
    weights = importance_weights(example.old_logp, sampler, example.mask)
    np.testing.assert_allclose(weights, filled(ragged, TIS), atol=1e-7)
    value, gradient = loss_and_gradient(weighing(weights), example)
    np.testing.assert_allclose(value, -0.5987111, atol=1e-7)
    np.testing.assert_allclose(gradient, filled(ragged, TIS_GRADIENT), atol=1e-7)
    normalized = importance_weights(example.old_logp, sampler, example.mask, normalized=True)
    np.testing.assert_allclose(normalized[0, 0], 1.0395597, atol=1e-7)
    np.testing.assert_allclose(np.asarray(normalized)[example.mask].mean(), 1)


@pytest.mark.parametrize(("options", "loss"), [
    ({"level": "sequence"}, -0.9693804), ({"level": "sequence", "mode": "mask"}, -0.2924940),
    ({"mode": "mask", "low": 0.5}, -0.3961500), ({"mode": "mask", "low": 0.6}, -0.3961500),
    ({"low": 0.5}, -0.5914819)])
def test_weights_golden(options, loss, example, sampler, loss_and_gradient):
    weights = importance_weights(example.old_logp, sampler, example.mask, **options)
    np.testing.assert_allclose(loss_and_gradient(weighing(weights), example)[0], loss, atol=1e-7)


def test_sequence_weights_golden(example, sampler):
    weights = importance_weights(example.old_logp, sampler, example.mask, level="sequence")
    np.testing.assert_allclose(weights[:, 0], [2, 0.4723666, 1.8221188], atol=1e-7)
    weights = importance_weights(example.old_logp, sampler, example.mask, level="sequence", normalized=True)
    np.testing.assert_allclose(weights[:, 0], [1.3971406, 0.3299813, 1.2728781], atol=1e-7)


def test_token_weights_behind_a_sequence_mask(example, sampler, loss_and_gradient):
    weights = importance_weights(example.old_logp, sampler, example.mask, high=math.inf)
    keep = rejection_mask(example.old_logp, sampler, example.mask, level="sequence_mean", low=0.8, high=1.5)
    value, _ = loss_and_gradient(weighing(weights * keep), example)
    np.testing.assert_allclose(value, -0.8175434, atol=1e-7)


def test_rejection_golden(example, sampler):
    reject = functools.partial(rejection_mask, example.old_logp, sampler, example.mask)
    tokens = np.asarray(reject(low=0.5, high=2.0))
    assert np.argwhere(tokens != example.mask).tolist() == [[0, 2], [1, 0]]
    np.testing.assert_array_equal(tokens, reject(high=2.0))
    np.testing.assert_array_equal(reject(level="sequence_mean", high=1.25).any(axis=1), [False, False, True])
    np.testing.assert_array_equal(reject(estimator="k2", level="sequence_max", high=0.35).any(axis=1),
                                  [False, True, True])
    whole = np.asarray(reject(estimator="k3", level="sequence_sum", high=0.5))
    assert ((whole.sum(1) == 0) | (whole.sum(1) == example.mask.sum(1))).all()


def test_bounds_are_on_trainer_over_sampler():
    """Asymmetric bounds show which way round the ratio is: 0.45 is rejected and 2.4 kept by 0.5 to 2.5."""
    ratio = np.array([[0.45, 2.4]])
    keep = rejection_mask(np.log(ratio), np.zeros((1, 2)), np.ones((1, 2), bool), low=0.5, high=2.5)
    np.testing.assert_array_equal(keep, [[False, True]])


def test_policies_of_two(example, sampler, loss_and_gradient, ragged):
    """Without an old policy: the clip around the sampler, or REINFORCE with the current policy's weights."""
    value, _ = loss_and_gradient(clipped, example._replace(old_logp=sampler))
    np.testing.assert_allclose(value, -0.4006089, atol=1e-7)
    weights = importance_weights(example.logp, sampler, example.mask)
    value, gradient = loss_and_gradient(weighing(weights, losses.reinforce), example)
    np.testing.assert_allclose(value, 0.2365311, atol=1e-7)
    np.testing.assert_allclose(gradient, filled(ragged, BYPASS_GRADIENT), atol=1e-7)
    weights = importance_weights(example.logp, sampler, example.mask, level="sequence")
    value, _ = loss_and_gradient(weighing(weights, losses.reinforce), example)
    np.testing.assert_allclose(value, 0.6668053, atol=1e-7)


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_no_mismatch_is_no_correction(level, example):
    for mode in ("truncate", "mask"):
        weights = importance_weights(example.old_logp, example.old_logp, example.mask, level=level, mode=mode)
        np.testing.assert_array_equal(weights, example.mask)
    kept = rejection_mask(example.old_logp, example.old_logp, example.mask, high=1.001)
    np.testing.assert_array_equal(kept, example.mask)


def test_t20_tokens_the_sampler_never_gives(example):
    for bad in (-np.inf, np.inf, -1e4):
        inputs = np.where(example.mask, bad, np.nan)
        for level in ("token", "sequence"):
            weights = importance_weights(example.old_logp, inputs, example.mask, level=level, high=math.inf)
            assert np.isfinite(weights).all()


def test_weights_have_no_gradient(example, sampler):
    def total(logp, sampler_logp):
        weights = importance_weights(logp, sampler_logp, example.mask, level="sequence", normalized=True)
        return scale_terms(clipped(example), weights).values.sum()

    gradients = jax.grad(total, argnums=(0, 1))(jnp.asarray(example.logp), jnp.asarray(sampler))
    assert not any(gradient.any() for gradient in gradients)


def test_only_whole_sequence_weights_are_unbiased(x64):
    """Two tokens from two words, enumerated: the expected gradient under the sampler against the exact one."""
    rng = np.random.default_rng(0)
    logits, sampler_logits = rng.normal(size=(2, 3, 2))  # first token, then one row for each first token
    sequences = np.array(list(itertools.product(range(2), repeat=2)))
    rewards = rng.normal(size=4)

    def tokens(z):
        table = jax.nn.log_softmax(z)
        return jnp.stack([table[0, sequences[:, 0]], table[1 + sequences[:, 0], sequences[:, 1]]], axis=1)

    def expected(z, level):
        logp, sampler_logp = tokens(z), tokens(sampler_logits)
        mask = np.ones((4, 2), bool)
        inputs = losses.SurrogateInputs(logp, sampler_logp, np.repeat(rewards[:, None], 2, 1), mask, np.arange(4),
                                        rewards)
        terms = losses.reinforce(inputs)
        if level is not None:
            terms = scale_terms(terms, importance_weights(logp, sampler_logp, mask, level=level, high=math.inf))
        return jnp.exp(sampler_logp.sum(1)) @ terms.values.sum(1)

    exact = jax.grad(lambda z: -jnp.exp(tokens(z).sum(1)) @ rewards)(logits)
    errors = {level: np.abs(jax.grad(expected)(logits, level) - exact).max() for level in ("sequence", "token", None)}
    assert errors["sequence"] < 1e-12
    assert errors["token"] > 1e-3
    assert errors[None] > 1e-3


@pytest.mark.parametrize(("function", "options", "match"), [
    (importance_weights, {"level": "row"}, "level is 'row'; allowed: token, sequence"),
    (importance_weights, {"mode": "drop"}, "mode is 'drop'"),
    (importance_weights, {"low": 1.5}, r"low is 1\.5; allowed: 0 <= low <= 1"),
    (importance_weights, {"high": 0.5}, r"high is 0\.5; allowed: high >= 1"),
    (rejection_mask, {"high": 0.5}, r"high is 0\.5; allowed: high >= 1 for k1"),
    (rejection_mask, {"estimator": "k2", "low": 0.5, "high": 1.0}, r"low is 0\.5"),
    (rejection_mask, {"estimator": "k4", "high": 1.0}, "estimator is 'k4'"),
])
def test_bad_options(function, options, match, example):
    with pytest.raises(ValueError, match=match):
        function(example.logp, example.old_logp, example.mask, **options)


def test_bad_options_of_masks(example):
    with pytest.raises(ValueError, match="share is 2; allowed: 0 <= share <= 1"):
        losses.entropy_quantile_mask(example.entropy, example.mask, share=2)
    with pytest.raises(ValueError, match="denominator is 'some'; allowed: all, kept"):
        keep_tokens(clipped(example), example.mask, denominator="some")
    with pytest.raises(ValueError, match="the shape of keep is"):
        keep_tokens(clipped(example), example.mask[0])
