import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.advantages import group_normalized

NAN, INF = float("nan"), float("inf")


def test_golden(batch):
    values = group_normalized(batch([1, 0, 0, 1, 0, 0, 0, 0])).values
    np.testing.assert_allclose(values, np.where([1, 0, 0, 1, 0, 0, 0, 0], 1.6201817, -0.5400606), atol=1e-6)


@pytest.mark.parametrize("right", [1, 3, 6])
def test_closed_form_of_binary_rewards(right, batch):
    """sqrt((1 - p) / p) and its mirror image, times sqrt((n - 1) / n) for the sample deviation."""
    rewards, p = np.arange(8) < right, right / 8
    up, down = np.sqrt((1 - p) / p), -np.sqrt(p / (1 - p))
    population = group_normalized(batch(rewards), ddof=0, epsilon=1e-12).values
    np.testing.assert_allclose(population, np.where(rewards, up, down), rtol=1e-5)
    sample = group_normalized(batch(rewards), epsilon=1e-12).values
    np.testing.assert_allclose(sample, np.sqrt(7 / 8) * np.where(rewards, up, down), rtol=1e-5)


@pytest.mark.parametrize(("scale", "expected"), [
    ("group", [0.8658754, -0.8658754, -0.8658754, 0.8658754, 0.4999, 0.4999, -1.4997001, 0.4999]),
    ("batch", [0.9659052, -0.9659052, -0.9659052, 0.9659052, 0.4829526, 0.4829526, -1.4488577, 0.4829526]),
    ("none", [0.5, -0.5, -0.5, 0.5, 0.25, 0.25, -0.75, 0.25])])
def test_scale_golden(scale, expected, batch):
    inputs = batch([1, 0, 0, 1, 1, 1, 0, 1], groups=[4, 4, 4, 4, 9, 9, 9, 9])
    np.testing.assert_allclose(group_normalized(inputs, scale=scale, epsilon=1e-4).values, expected, atol=1e-6)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_groups_are_keyed_by_id(scale, batch):
    """Rows of a group may be anywhere, in groups of any size."""
    rng = np.random.default_rng(0)
    rewards, groups = rng.normal(size=9), np.array([5, 5, 2, 2, 2, 2, 7, 7, 7])
    order = rng.permutation(9)
    plain = group_normalized(batch(rewards, groups), scale=scale).values
    mixed = group_normalized(batch(rewards[order], groups[order]), scale=scale).values
    np.testing.assert_allclose(mixed, np.asarray(plain)[order], atol=1e-6)


@pytest.mark.parametrize("scale", ["group", "none"])
def test_unscorable_rewards_leave_the_baseline(scale, batch):
    """T18: the others get what they would get without the row."""
    result = group_normalized(batch([1, NAN, 0, INF, 0, -INF]), scale=scale)
    alone = group_normalized(batch([1, 0, 0]), scale=scale)
    np.testing.assert_allclose(np.asarray(result.values)[[0, 2, 4]], alone.values, rtol=1e-6)
    np.testing.assert_array_equal(result.weights, [1, 0, 1, 0, 1, 0])
    assert not np.any(np.asarray(result.values)[[1, 3, 5]])


def test_bad_options(batch):
    for options, match in (({"scale": "row"}, "scale is 'row'"), ({"ddof": 2}, "ddof is 2"),
                           ({"epsilon": 0}, "epsilon is 0")):
        with pytest.raises(ValueError, match=match):
            group_normalized(batch([1, 0]), **options)


def test_compiled_is_the_same(batch):
    inputs = jax.tree.map(jnp.asarray, batch([1, 0, NAN, 1, 0], groups=[0, 0, 0, 1, 1]))
    for plain, compiled in zip(jax.tree.leaves(group_normalized(inputs)),
                               jax.tree.leaves(jax.jit(group_normalized)(inputs)), strict=True):
        np.testing.assert_allclose(plain, compiled, rtol=1e-6)
