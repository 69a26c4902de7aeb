"""Losses and gradients of the worked example, against values computed by other implementations in float64."""

import functools

import jax
import numpy as np
import pytest

from rl_reasoning import losses

PPO = ([-0.1227968, -0.0823131, 0], [0.1426695, 0], [-0.0528461, 0, -0.0555556, -0.0454850])
TOKEN, SEQUENCE, SUM = "token_mean", "sequence_mean_token_mean", "sequence_mean_token_sum"
VESPO = ([-0.0708776] * 3, [0.0701864] * 2, [-0.0461493] * 4)
SAPO = ([-0.1224578, -0.0809461, -0.1651932], [0.2093156, 0.0865224],
        [-0.0396110, -0.0585469, -0.0416667, -0.0338351])
KL_COV = ([-0.1227968, -0.0823131, -0.1720801], [0.1537806, 0.0609791],
          [-0.0528461, -0.0828791, -0.0555556, -0.0454850])
GMPO = ([-0.1111111, -0.1111111, 0], [0.1708859, 0], [-0.0411491, 0, -0.0411491, -0.0411491])

CASES = {
    "reinforce": (losses.reinforce, TOKEN, 0.0833333, ([-1 / 9] * 3, [1 / 9] * 2, [-0.5 / 9] * 4)),
    "cispo": (losses.cispo, TOKEN, 0.0685104, None),
    "sapo": (losses.sapo, SEQUENCE, -0.4551288, SAPO),
    "gmpo_.2": (functools.partial(losses.gmpo, clip_low=0.2, clip_high=0.2), SEQUENCE, -0.1561579, GMPO),
    "gmpo_.4": (losses.gmpo, SEQUENCE, -0.2201005, None),
    "gspo_.2": (functools.partial(losses.gspo, clip_low=0.2, clip_high=0.2), SEQUENCE, -0.2616066, None),
    "luspo": (losses.luspo, SUM, None, None),
    "luspo_open": (functools.partial(losses.luspo, clip_low=0.9, clip_high=9.0), SUM, -1.2376742,
                   ([-0.3683903] * 3, [0.2798190] * 2, [-0.1730353] * 4)),
    "vespo": (losses.vespo, TOKEN, 0.0860847, VESPO),
    "kl_cov": (functools.partial(losses.kl_cov, fraction=0.25), TOKEN, -0.4130851, KL_COV),
}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[2] is not None])
def test_golden(name, example, loss_and_gradient, ragged):
    surrogate, mode, loss, coefficients = CASES[name]
    value, gradient = loss_and_gradient(surrogate, example, mode)
    np.testing.assert_allclose(value, loss, atol=1e-7)
    if coefficients is not None:
        np.testing.assert_allclose(gradient, np.nan_to_num(ragged(*coefficients)), atol=1e-7)


def test_clip_cov_drops_the_only_candidate(example, loss_and_gradient, ragged):
    inputs = example._replace(key=jax.random.key(0))
    value, gradient = loss_and_gradient(losses.clip_cov, inputs, fraction=0.5, covariance_low=0.3)
    np.testing.assert_allclose(value, -0.4701077, atol=1e-7)
    expected = np.nan_to_num(ragged(*PPO))
    expected[1, 0] = 0
    np.testing.assert_allclose(gradient, expected, atol=1e-7)


def log_ratios(inputs):
    return np.where(inputs.mask, inputs.logp - inputs.old_logp, 0)


def test_cispo_closed_form(example, loss_and_gradient):
    ratio, advantages = np.exp(log_ratios(example)), np.nan_to_num(example.advantages)
    for cap, floor in ((5.0, 0.0), (np.inf, 0.0), (1.2, 0.8)):
        _, gradient = loss_and_gradient(losses.cispo, example, cap=cap, floor=floor)
        np.testing.assert_allclose(gradient, -np.clip(ratio, floor, cap) * advantages / 9, atol=1e-12)


def test_gspo_and_luspo_closed_forms(example, loss_and_gradient):
    """c = -A s / (L B) and -A s / B while the sequence is not clipped."""
    lengths = example.mask.sum(1, keepdims=True)
    pull = -np.nan_to_num(example.advantages) * np.exp(log_ratios(example).sum(1, keepdims=True) / lengths) / 3
    _, gradient = loss_and_gradient(losses.gspo, example, SEQUENCE, clip_low=0.9, clip_high=9.0)
    np.testing.assert_allclose(gradient, pull / lengths * example.mask, atol=1e-12)
    _, gradient = loss_and_gradient(losses.luspo, example, SUM, clip_low=0.9, clip_high=9.0)
    np.testing.assert_allclose(gradient, pull * example.mask, atol=1e-12)


def test_sapo_closed_form_and_bound(x64, loss_and_gradient, example):
    """The weight peaks near a ratio of 2 and fades to nothing far away on both sides."""
    for level in ("token", "sequence"):
        d = log_ratios(example)
        if level == "sequence":
            d = d.sum(1, keepdims=True) / example.mask.sum(1, keepdims=True) * example.mask
        ratio, advantages = np.exp(d), np.nan_to_num(example.advantages)
        tau = np.where(advantages > 0, 1.0, 1.05)
        _, gradient = loss_and_gradient(losses.sapo, example, denominator=1, level=level)
        expected = -advantages * ratio / np.cosh(tau * (ratio - 1) / 2) ** 2
        np.testing.assert_allclose(gradient, expected, atol=1e-12)
    ratio = np.concatenate([np.linspace(0.01, 8, 2000), [1e-8, 1e4]])[:, None]
    wide = losses.SurrogateInputs(np.zeros_like(ratio), -np.log(ratio), np.ones_like(ratio), ratio > 0,
                                  np.zeros(len(ratio), np.int32), np.zeros(len(ratio)))
    weight = -np.asarray(loss_and_gradient(losses.sapo, wide, denominator=1)[1])
    np.testing.assert_allclose(weight.max(), 1.5746747, atol=1e-5)
    np.testing.assert_allclose(weight[-2:], 0, atol=1e-7)


def test_gmpo_without_clipped_tokens_is_gspo(example, loss_and_gradient):
    for actual, expected in zip(loss_and_gradient(losses.gmpo, example, SEQUENCE, clip_low=9.0, clip_high=9.0),
                                loss_and_gradient(losses.gspo, example, SEQUENCE, clip_low=0.9, clip_high=9e9),
                                strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-12)


@pytest.mark.parametrize(("advantage", "peak", "height"), [(1.0, 2 / 3, 1.2081253), (-1.0, 1.5, 1.2415931)])
def test_vespo_weight_peaks_where_the_gamma_density_does(advantage, peak, height, x64, loss_and_gradient):
    log_ratio = np.log(peak) + np.linspace(-1, 1, 201)[:, None]
    inputs = losses.SurrogateInputs(np.zeros_like(log_ratio), -log_ratio, np.full_like(log_ratio, advantage),
                                    np.ones_like(log_ratio, bool), np.zeros(201, np.int32), np.zeros(201))
    weight = np.abs(loss_and_gradient(losses.vespo, inputs, denominator=1)[1])[:, 0]
    assert weight.argmax() == 100
    np.testing.assert_allclose(weight[100], height, atol=1e-7)


@pytest.mark.parametrize(("drift", "advantage", "weight"), [(0.001, 1.0, 0.0426), (0.001, -1.0, 0.6463),
                                                            (0.01, 1.0, 0.0), (0.01, -1.0, 0.0)])
def test_vespo_weight_is_a_product_over_tokens(drift, advantage, weight, x64, loss_and_gradient):
    shape = (1, 1000)
    inputs = losses.SurrogateInputs(np.zeros(shape), np.full(shape, -drift), np.full(shape, advantage),
                                    np.ones(shape, bool), np.zeros(1, np.int32), np.zeros(1))
    _, gradient = loss_and_gradient(losses.vespo, inputs, denominator=1)
    np.testing.assert_allclose(np.abs(gradient), weight, atol=5e-5)


def test_kl_cov_penalty_is_silent_at_the_old_policy_and_pulls_back_elsewhere(example, loss_and_gradient):
    same = example._replace(old_logp=example.logp)
    for _, gradient in (loss_and_gradient(losses.kl_cov, same, penalty=k, fraction=1.0) for k in (0.0, 5.0)):
        np.testing.assert_allclose(gradient, -np.nan_to_num(example.advantages) / 9, atol=1e-12)
    plain, pulled = (np.asarray(loss_and_gradient(losses.kl_cov, example, penalty=k, fraction=1.0)[1])
                     for k in (0.0, 1.0))
    np.testing.assert_allclose(pulled - plain, np.sign(log_ratios(example)) / 9, atol=1e-12)


def test_clip_cov_selection(example):
    """At least one token, only candidates, the same for the same key, another for another key."""
    options = {"covariance_low": -0.2, "covariance_high": 2.0}
    def pick(seed, fraction):
        inputs = example._replace(key=jax.random.key(seed))
        return np.asarray(losses.clip_cov_selection(inputs, fraction=fraction, **options))

    ratio, advantages = np.exp(log_ratios(example)), np.nan_to_num(example.advantages)
    cut = ((advantages > 0) & (ratio > 1.2)) | ((advantages < 0) & (ratio < 0.8))
    logp = np.where(example.mask, example.logp, 0)
    covariance = (advantages - advantages.sum() / 9) * (logp - logp.sum() / 9)
    candidates = example.mask & ~cut & (covariance > -0.2) & (covariance < 2.0)
    assert not (pick(0, 1.0) ^ candidates).any()
    picks = [pick(seed, 0.0) for seed in range(8)]
    assert all(chosen.sum() == 1 and not (chosen & ~candidates).any() for chosen in picks)
    assert (pick(3, 0.0) == picks[3]).all()
    assert len({chosen.tobytes() for chosen in picks}) > 1


def test_clip_cov_without_candidates_is_the_clip(example, loss_and_gradient):
    inputs = example._replace(key=jax.random.key(0))
    _, gradient = loss_and_gradient(losses.clip_cov, inputs, covariance_low=1e3, covariance_high=1e4)
    np.testing.assert_allclose(gradient, loss_and_gradient(losses.clipped, example)[1], atol=1e-12)


def test_supervised_on_right_touches_right_answers_alone(example, loss_and_gradient):
    value, gradient = loss_and_gradient(losses.supervised_on_right, example)
    np.testing.assert_allclose(value, (0.5 + 1.2 + 0.3) / 3)
    np.testing.assert_allclose(gradient, np.where(example.rewards[:, None] == 1, example.mask / -3, 0), atol=1e-12)
    none = example._replace(rewards=np.array([0.5, 0.0, np.nan]))
    value, gradient = loss_and_gradient(losses.supervised_on_right, none)
    assert value == 0
    assert not np.any(gradient)


def test_supervised_is_the_mean_over_the_loss_mask(example):
    terms = losses.supervised(example.logp, example.mask)
    np.testing.assert_allclose(losses.reduce(terms, TOKEN, max_length=4), -example.logp[example.mask].mean())
    np.testing.assert_allclose(terms.sums["logp_sum"], example.logp[example.mask].sum())


@pytest.mark.parametrize(("surrogate", "options", "match"), [
    (losses.cispo, {"cap": 0.2}, r"cap is 0\.2; allowed: cap >= 1"),
    (losses.cispo, {"floor": 1.5}, r"floor is 1\.5; allowed: 0 <= floor <= 1"),
    (losses.sapo, {"temperature_positive": 0}, "temperature_positive is 0"),
    (losses.gspo, {"clip_low": 1}, "clip_low is 1"), (losses.luspo, {"clip_high": -1}, "clip_high is -1"),
    (losses.gmpo, {"clip_low": -0.1}, "clip_low is -0.1"), (losses.vespo, {"positive_decay": 0}, "positive_decay is 0"),
    (losses.vespo, {"negative_power": -1}, "negative_power is -1"),
    (losses.clip_cov, {}, "key is None; allowed: a random key"),
    (losses.clip_cov, {"covariance_low": 6.0}, "covariance_low is 6"),
    (losses.kl_cov, {"fraction": 2.0}, "fraction is 2"),
    (losses.kl_cov, {"penalty": -1}, "penalty is -1"),
])
def test_bad_options(surrogate, options, match, example):
    with pytest.raises(ValueError, match=match):
        surrogate(example, **options)
