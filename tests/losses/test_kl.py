import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.losses import ESTIMATORS, kl_penalty

U = np.array([-1.5, -0.2, 0.4, 2.0])


@pytest.mark.parametrize(("name", "value", "gradient"), [
    ("k1", U, np.ones(4)), ("absolute", abs(U), np.sign(U)), ("k2", U**2 / 2, U),
    ("k3", np.exp(-U) + U - 1, 1 - np.exp(-U)), ("k3_straight_through", np.exp(-U) + U - 1, U)])
def test_values_and_gradients(name, value, gradient):
    np.testing.assert_allclose(ESTIMATORS[name](jnp.asarray(U)), value, rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(jax.grad(ESTIMATORS[name]))(jnp.asarray(U)), gradient, rtol=1e-5)


@pytest.mark.parametrize("name", ["absolute", "k2", "k3", "k3_straight_through"])
def test_zero_at_the_reference_and_never_negative(name):
    u = jnp.linspace(-3, 3, 61)
    assert ESTIMATORS[name](jnp.zeros(())) == 0
    assert jax.grad(ESTIMATORS[name])(0.0) == 0
    assert (ESTIMATORS[name](u) >= 0).all()


def test_expected_gradients_on_policy(x64):
    """k1 as a loss pulls nowhere; k2 has the exact gradient of the reverse KL."""
    logits, reference = jnp.array([0.3, -0.8, 1.1]), jax.nn.log_softmax(jnp.array([-0.5, 0.2, 0.9]))

    def expected(estimator, z):
        return jnp.exp(jax.lax.stop_gradient(jax.nn.log_softmax(z))) @ estimator(jax.nn.log_softmax(z) - reference)

    exact = jax.grad(lambda z: jnp.exp(jax.nn.log_softmax(z)) @ (jax.nn.log_softmax(z) - reference))(logits)
    gradients = {name: jax.grad(expected, argnums=1)(ESTIMATORS[name], logits) for name in ("k1", "k2")}
    np.testing.assert_allclose(gradients["k1"], 0, atol=1e-15)
    np.testing.assert_allclose(gradients["k2"], exact, atol=1e-15)


def test_golden(example, loss_and_gradient, ragged):
    loss, gradient = loss_and_gradient(kl_penalty, example)
    np.testing.assert_allclose((loss, gradient[0, 0]), (0.0401424, 0.0201410), atol=1e-7)
    loss, gradient = loss_and_gradient(kl_penalty, example, corrected=True)
    np.testing.assert_allclose(loss, 0.0447990, atol=1e-7)
    expected = ragged([0.0245594, -0.0082313, 0.0549574], [-0.0570678, 0.0060979],
                      [0.0052846, 0, 0.0666667, -0.0272910])
    np.testing.assert_allclose(gradient, np.nan_to_num(expected), atol=1e-7)


def test_far_references_stay_finite(example, loss_and_gradient):
    """T20: a reference that never gives the token."""
    for reference in (-np.inf, 1e4, -1e4):
        inputs = example._replace(ref_logp=np.full((3, 4), reference))
        loss, gradient = loss_and_gradient(kl_penalty, inputs)
        assert np.isfinite(loss)
        assert np.isfinite(gradient).all()


def test_bad_options(example):
    with pytest.raises(ValueError, match="estimator is 'k4'; allowed: k1, absolute"):
        kl_penalty(example, estimator="k4")
    with pytest.raises(ValueError, match="ref_logp is None"):
        kl_penalty(example._replace(ref_logp=None))
