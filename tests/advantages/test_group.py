import functools

import jax
import numpy as np
import pytest

from rl_reasoning import advantages
from tests.compiling import COMPILE_FAST

NAN, INF = float("nan"), float("inf")
compiled = functools.partial(jax.jit, compiler_options=COMPILE_FAST)
dr_grpo, opo, rloo = (compiled(function) for function in (advantages.dr_grpo, advantages.opo, advantages.rloo))
gpg = compiled(advantages.gpg, static_argnames="count")
gdpo = compiled(advantages.gdpo, static_argnames=("component_weights", "epsilon"))
grpo_passk = compiled(advantages.grpo_passk, static_argnames="normalized")
group_normalized = compiled(advantages.group_normalized, static_argnames=("scale", "ddof", "epsilon"))


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


def test_rloo_and_dr_grpo_golden(batch):
    rewards = np.array([1, 0, 0, 1, 0, 0, 0, 0])
    np.testing.assert_allclose(rloo(batch(rewards)).values, np.where(rewards, 0.8571429, -0.2857143), atol=1e-6)
    np.testing.assert_allclose(dr_grpo(batch(rewards)).values, np.where(rewards, 0.75, -0.25))


def test_rloo_is_the_mean_of_the_others(batch):
    rewards = np.array([0.3, 0.9, -0.4])
    others = (rewards.sum() - rewards) / 2
    np.testing.assert_allclose(rloo(batch(rewards)).values, rewards - others, atol=1e-6)


def test_opo_golden(batch):
    """The baseline is weighted by the lengths 3, 2 and 4."""
    values = opo(batch([1, 0, 0.5], lengths=[3, 2, 4], length=4)).values
    np.testing.assert_allclose(values, [0.4444444, -0.5555556, -0.0555556], atol=1e-6)
    np.testing.assert_allclose(opo(batch([1, 0, 0.5])).values, dr_grpo(batch([1, 0, 0.5])).values, atol=1e-6)


def test_gpg_golden(batch):
    np.testing.assert_allclose(gpg(batch([1, 0, 0.5]), count="nonzero").values, [0.75, -0.75, 0], atol=1e-6)
    inputs = batch([1, 0, 0, 0, 1, 1, 1, 1], groups=[0, 0, 0, 0, 1, 1, 1, 1])
    np.testing.assert_allclose(gpg(inputs, count="nonzero").values, [1.2, -0.4, -0.4, -0.4, 0, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(gpg(inputs).values, [1.5, -0.5, -0.5, -0.5, 0, 0, 0, 0], atol=1e-6)
    signs = gpg(batch([1, -1, -1, 1]), count="nonzero").values
    np.testing.assert_allclose(signs, [1, -1, -1, 1])


def test_gpg_makes_up_for_groups_without_a_gradient(batch):
    """Every constant group raises the scale of the others, whichever its reward."""
    for reward in (0, 1):
        inputs = batch([1, 0, reward, reward], groups=[0, 0, 1, 1])
        np.testing.assert_allclose(gpg(inputs).values, [1, -1, 0, 0])


def test_passk_golden(batch):
    np.testing.assert_allclose(grpo_passk(batch([0.2, 0.9, 0.5, 0.1])).values, [0, 0.4, 0, 0], atol=1e-6)
    normalized = grpo_passk(batch([0.2, 0.9, 0.5, 0.1]), normalized=True).values
    np.testing.assert_allclose(normalized, [0, 1.1129703, 0, 0], atol=1e-6)
    np.testing.assert_allclose(grpo_passk(batch(np.arange(8) == 2), normalized=True).values[2], 2.8284191, atol=1e-6)
    assert not np.any(grpo_passk(batch([1, 1, 0, 0])).values)


def test_gdpo_golden(batch):
    components = np.array([[1, 0, 0, 1], [0.2, 0.9, 0.1, 0.4]], np.float32).T
    inputs = batch(components.sum(axis=1), reward_components=components)
    expected = [0.2616409, 0.4634347, -1.4701002, 0.7450246]
    np.testing.assert_allclose(gdpo(inputs).values, expected, atol=1e-6)
    scaled = inputs._replace(reward_components=components * np.array([1, 50], np.float32))
    np.testing.assert_allclose(gdpo(scaled).values, expected, atol=2e-3)
    summed = group_normalized(inputs, epsilon=1e-4).values
    np.testing.assert_allclose(summed, [0.5247988, 0, -1.3994636, 0.8746647], atol=1e-6)
    only_first = gdpo(inputs, component_weights=(1.0, 0.0)).values
    np.testing.assert_allclose(only_first, np.where(components[:, 0], 1, -1) * np.sqrt(3) / 2, atol=1e-3)


def test_gdpo_leaves_out_rows_with_a_missing_component(batch):
    components = np.array([[1, 0, 0, 1, 0], [0.2, 0.9, 0.1, 0.4, NAN]], np.float32).T
    result = gdpo(batch([1, 1, 1, 1, 1], reward_components=components))
    expected = [0.2616409, 0.4634347, -1.4701002, 0.7450246, 0]
    np.testing.assert_allclose(result.values, expected, atol=1e-6)
    np.testing.assert_array_equal(result.weights, [1, 1, 1, 1, 0])


def test_bad_options_of_the_others(batch):
    inputs = batch([1, 0], reward_components=np.zeros((2, 3)))
    for call, match in ((lambda: gpg(inputs, count="all"), "count is 'all'; allowed: informative, nonzero"),
                        (lambda: gdpo(inputs, component_weights=(1.0,)), "component_weights is"),
                        (lambda: gdpo(inputs, epsilon=0), "epsilon is 0"),
                        (lambda: gdpo(batch([1, 0])), "reward_components is None")):
        with pytest.raises(ValueError, match=match):
            call()
