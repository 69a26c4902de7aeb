import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.losses import SurrogateInputs, clipped, gppo

RATIOS = np.array([0.3, 0.8, 0.9, 1, 1.2, 1.28, 1.5, 5, 12])
UP = np.array([-0.3, -0.8, -0.9, -1, -1.2, -1.28, -1.28, -1.28, -1.28])
DOWN = np.array([0.8, 0.8, 0.9, 1, 1.2, 1.28, 1.5, 5, 12])


def one_token_rows(ratios, advantage):
    ratios = np.atleast_1d(ratios)[:, None]
    return SurrogateInputs(logp=np.full(ratios.shape, -1.0), old_logp=-1.0 - np.log(ratios),
                           advantages=np.full(ratios.shape, float(advantage)), mask=np.ones(ratios.shape, bool),
                           groups=np.zeros(len(ratios), np.int32), rewards=np.ones(len(ratios)))


def coefficients(loss_and_gradient, surrogate, inputs, **options):
    value, gradient = loss_and_gradient(surrogate, inputs, denominator=1, **options)
    return value, np.asarray(gradient)[:, 0]


@pytest.mark.parametrize(("advantage", "expected"), [(1, UP), (-1, DOWN)])
def test_gradient_table(advantage, expected, x64, loss_and_gradient):
    """Defined at the bounds too: value and gradient are continuous there."""
    inputs = one_token_rows(RATIOS, advantage)
    np.testing.assert_allclose(coefficients(loss_and_gradient, gppo, inputs)[1], expected, rtol=1e-9)
    with_dual = coefficients(loss_and_gradient, gppo, inputs, dual_clip=10.0)[1]
    np.testing.assert_allclose(with_dual, np.where((RATIOS > 10) & (advantage < 0), 0, expected), rtol=1e-9)


@pytest.mark.parametrize("advantage", [1, -1, 0])
def test_value_is_that_of_the_clip(advantage, x64, loss_and_gradient):
    inputs = one_token_rows(np.linspace(0.05, 3, 40), advantage)
    expected, _ = coefficients(loss_and_gradient, clipped, inputs, clip_high=0.28)
    np.testing.assert_allclose(coefficients(loss_and_gradient, gppo, inputs)[0], expected, rtol=1e-12)


def test_betas_scale_what_is_clipped_and_zero_gives_the_gradient_of_the_clip(x64, loss_and_gradient):
    for advantage, ratio, bound in ((1, 2.0, 1.28), (-1, 0.5, 0.8)):
        inputs = one_token_rows(ratio, advantage)
        gradient = coefficients(loss_and_gradient, gppo, inputs, beta_low=0.75, beta_high=0.5)[1]
        np.testing.assert_allclose(gradient, -advantage * bound * (0.5 if advantage > 0 else 0.75))
    for advantage in (1, -1):
        inputs = one_token_rows([0.3, 0.9, 1.1, 2], advantage)
        expected = coefficients(loss_and_gradient, clipped, inputs, clip_high=0.28)[1]
        actual = coefficients(loss_and_gradient, gppo, inputs, beta_low=0.0, beta_high=0.0)[1]
        np.testing.assert_allclose(actual, expected, rtol=1e-12)


@pytest.mark.parametrize("advantage", [0.0, 1.0, -1.0])
def test_underflowing_ratio_stays_finite(advantage, loss_and_gradient):
    """T20: in float32 exp(-200) is 0, and bound / 0 * 0 would be NaN."""
    inputs = one_token_rows(1.0, advantage)
    inputs = inputs._replace(old_logp=jnp.full((1, 1), 199.0, jnp.float32), logp=jnp.full((1, 1), -1.0, jnp.float32))
    value, gradient = coefficients(loss_and_gradient, gppo, inputs)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_bad_options():
    for options, match in (({"beta_low": -1.0}, "beta_low is -1.0; allowed: 0 <= beta_low < inf"),
                           ({"beta_high": float("inf")}, "beta_high is inf"), ({"clip_low": 1.5}, "clip_low is 1.5"),
                           ({"dual_clip": 0.5}, "dual_clip is 0.5")):
        with pytest.raises(ValueError, match=match):
            gppo(one_token_rows(1.0, 1), **options)
