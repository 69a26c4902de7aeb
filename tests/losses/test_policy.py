import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.losses import SurrogateInputs, clipped


def one_token(ratio, advantage):
    one = jnp.ones((1, 1))
    return SurrogateInputs(logp=one * -1.0, old_logp=one * (-1.0 - np.log(ratio)), advantages=one * advantage,
                           mask=jnp.ones((1, 1), bool), groups=jnp.zeros(1, jnp.int32), rewards=jnp.ones(1))


def test_golden(example, loss_and_gradient, ragged):
    loss, gradient = loss_and_gradient(clipped, example)
    np.testing.assert_allclose(loss, -0.3274382, atol=1e-7)
    expected = ragged([-0.1227968, -0.0823131, 0], [0.1426695, 0], [-0.0528461, 0, -0.0555556, -0.0454850])
    np.testing.assert_allclose(gradient, np.nan_to_num(expected), atol=1e-7)


@pytest.mark.parametrize(("advantage", "ratio", "coefficient"), [
    (1, 0.3, -0.3), (1, 0.9, -0.9), (1, 1, -1), (1, 1.2, -1.2), (1, 1.5, 0), (1, 12, 0),
    (-1, 0.3, 0), (-1, 0.9, 0.9), (-1, 1, 1), (-1, 1.28, 1.28), (-1, 5, 5), (-1, 12, 0)])
def test_gradient_table(advantage, ratio, coefficient, loss_and_gradient):
    _, gradient = loss_and_gradient(clipped, one_token(ratio, advantage), clip_high=0.28, dual_clip=10.0)
    np.testing.assert_allclose(gradient, coefficient, rtol=1e-5)


def test_dual_clip_is_off_by_default(loss_and_gradient):
    _, gradient = loss_and_gradient(clipped, one_token(12.0, -1.0))
    np.testing.assert_allclose(gradient, 12.0, rtol=1e-5)


def test_two_sided_clip_golden(example, loss_and_gradient):
    log_ratio = np.array(example.logp - example.old_logp)
    log_ratio[1, 0], log_ratio[0, 0] = np.log(6), np.log(1.1)
    inputs = example._replace(old_logp=example.logp - log_ratio)
    for dual_clip, loss, coefficient in ((None, 0.1971335, 0.6666667), (4.0, -0.0250887, 0.0)):
        value, gradient = loss_and_gradient(clipped, inputs, dual_clip=dual_clip)
        np.testing.assert_allclose((value, gradient[1, 0]), (loss, coefficient), atol=1e-7)


@pytest.mark.parametrize(("mode", "loss"), [("sequence_mean_token_mean", -0.2616066), ("token_mean", -0.4125581)])
def test_sequence_level_golden(mode, loss, example, loss_and_gradient):
    value, gradient = loss_and_gradient(clipped, example, mode, level="sequence")
    np.testing.assert_allclose(value, loss, atol=1e-7)
    mask, log_ratio = example.mask, np.where(example.mask, example.logp - example.old_logp, 0)
    lengths = mask.sum(1, keepdims=True)
    ratio = np.exp(log_ratio.sum(1, keepdims=True) / lengths)
    sign = np.array([[1], [-1], [0.5]])
    cut = ((sign > 0) & (ratio > 1.2)) | ((sign < 0) & (ratio < 0.8))
    share = lengths * 3 if mode == "sequence_mean_token_mean" else mask.sum()
    np.testing.assert_allclose(gradient, -sign * ratio * ~cut * mask / share, atol=1e-12)


def test_statistics_are_sums_over_valid_tokens(example):
    sums = clipped(example).sums
    log_ratio = (example.logp - example.old_logp)[example.mask]
    truth = {"tokens": 9, "clipped_positive": 2, "clipped_negative": 1, "ratio_excess_sum": np.expm1(log_ratio).sum(),
             "ratio_excess_square_sum": np.square(np.expm1(log_ratio)).sum(),
             "kl_behaviour_sum": (np.exp(log_ratio) - log_ratio - 1).sum()}
    assert sums.keys() == truth.keys()
    for name, value in truth.items():
        np.testing.assert_allclose(sums[name], value, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize(("options", "match"), [
    ({"clip_low": -0.1}, "clip_low is -0.1; allowed: 0 <= clip_low < 1"),
    ({"clip_low": 1.0}, "clip_low is 1.0"), ({"clip_high": -0.2}, "clip_high is -0.2; allowed: 0 <= clip_high"),
    ({"dual_clip": 1.0}, "dual_clip is 1.0; allowed: None, or dual_clip > 1"),
    ({"level": "word"}, "level is 'word'; allowed: token, sequence")])
def test_bad_options(options, match):
    with pytest.raises(ValueError, match=match):
        clipped(one_token(1.0, 1.0), **options)


def test_advantages_of_rows_are_refused_rather_than_broadcast():
    inputs = one_token(1.0, 1.0)._replace(advantages=jnp.ones(1))
    with pytest.raises(ValueError, match=r"the shape of advantages is \(1,\)"):
        clipped(inputs)
