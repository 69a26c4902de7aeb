import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.losses import clipped_value, entropy_bonus, reduce

MASK = np.array([[True, True, True, True, False]])
OLD = np.array([[0.0, 0.0, 0.0, 0.0, np.nan]])
VALUES = np.array([[0.2, 0.8, -0.8, 0.8, np.nan]])
RETURNS = np.array([[1.0, 1.0, 1.0, -1.0, np.nan]])


def test_clip_cuts_the_gradient_only_where_the_clipped_branch_is_larger():
    def loss(values):
        return reduce(clipped_value(values, OLD, RETURNS, MASK), "token_mean", max_length=5)

    value, gradient = jax.value_and_grad(loss)(jnp.asarray(VALUES))
    worst = np.maximum((VALUES - RETURNS) ** 2, (np.clip(VALUES, -0.5, 0.5) - RETURNS) ** 2)[MASK]
    np.testing.assert_allclose(value, 0.5 * worst.mean(), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[-0.8 / 4, 0, -1.8 / 4, 1.8 / 4, 0]], rtol=1e-6)


def test_no_clip_is_regression_and_sums_count():
    terms = clipped_value(VALUES, OLD, RETURNS, MASK, clip=None)
    np.testing.assert_allclose(terms.values[MASK], 0.5 * ((VALUES - RETURNS) ** 2)[MASK], rtol=1e-6)
    assert terms.sums["clipped"] == 0
    assert terms.sums["tokens"] == 4
    assert clipped_value(VALUES, OLD, RETURNS, MASK).sums["clipped"] == 1
    np.testing.assert_allclose(terms.sums["return_square_sum"], 4)


def test_bad_options():
    with pytest.raises(ValueError, match="clip is 0; allowed: None, or clip > 0"):
        clipped_value(VALUES, OLD, RETURNS, MASK, clip=0)


def test_entropy_bonus_raises_entropy():
    entropy, mask = jnp.array([[0.5, 1.5, jnp.nan]]), jnp.array([[True, True, False]])

    def loss(values):
        return reduce(entropy_bonus(values, mask), "token_mean", max_length=3)

    value, gradient = jax.value_and_grad(loss)(entropy)
    assert value == -1.0
    np.testing.assert_allclose(gradient, [[-0.5, -0.5, 0]])
    assert entropy_bonus(entropy, mask).sums["entropy_sum"] == 2.0
