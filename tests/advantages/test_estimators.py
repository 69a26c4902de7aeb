"""What every advantage estimator promises, whatever the rewards."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning import advantages
from rl_reasoning.advantages import AdvantageInputs
from tests.compiling import COMPILE_FAST

NAN, INF = float("nan"), float("inf")
GROUP_RELATIVE = {
    "group_normalized": advantages.group_normalized,
    "batch_scale": functools.partial(advantages.group_normalized, scale="batch"),
    "dr_grpo": advantages.dr_grpo, "rloo": advantages.rloo, "opo": advantages.opo, "gpg": advantages.gpg,
    "gpg_nonzero": functools.partial(advantages.gpg, count="nonzero"),
    "grpo_passk": advantages.grpo_passk, "grpo_passk_normalized": functools.partial(advantages.grpo_passk,
                                                                                    normalized=True),
    "gdpo": advantages.gdpo, "otb": advantages.otb, "otb_zero_tail": functools.partial(advantages.otb, zero_tail=True),
}
ALONE = {
    "positive_only": advantages.positive_only, "negative_only": advantages.negative_only,
    "signed": functools.partial(advantages.signed, positive_weight=0.1), "outcome": advantages.outcome,
    "raft": advantages.raft, "remax": advantages.remax, "gae": advantages.gae,
    "reinforce_plus_plus": advantages.reinforce_plus_plus,
}
ESTIMATORS = GROUP_RELATIVE | ALONE | {"reinforce_plus_plus_baseline": advantages.reinforce_plus_plus_baseline}
every_estimator = pytest.mark.parametrize("name", ESTIMATORS)
ROWS, LENGTH = 18, 4


def random_batch(seed=0):
    """Eighteen rows: an empty one, unscorable ones, a lone one and a constant group among them."""
    rng = np.random.default_rng(seed)
    groups = np.array([4, 4, 4, 4, 4, 4, 900, 900, 900, 900, -2, 7, 7, 7, 5, 5, 11, 11])
    rewards = rng.integers(0, 2, ROWS).astype(np.float32)
    rewards[:6] = [1, 0, NAN, 0, 1, 1]
    rewards[11:14] = 0.1  # constant
    rewards[14:16] = [INF, 1]  # one valid row
    rewards[16:] = [NAN, -INF]  # no valid row
    lengths = rng.integers(1, LENGTH + 1, ROWS)
    lengths[9] = 0
    mask = np.arange(LENGTH)[None, :] < lengths[:, None]
    logp = -rng.exponential(size=mask.shape).astype(np.float32)
    return AdvantageInputs(
        rewards=rewards, groups=groups, lengths=lengths, mask=mask, values=rng.normal(size=mask.shape),
        greedy_rewards=rng.integers(0, 2, ROWS).astype(np.float32),
        reward_components=np.stack([rewards, np.where(groups == 7, 0.3, rng.normal(size=ROWS))], axis=1),
        old_logp=logp, sum_pi_squared=np.exp(2 * logp) + 0.1)


@functools.cache
def compiled(name):
    return jax.jit(ESTIMATORS[name], compiler_options=COMPILE_FAST)


def run(name, inputs):
    inputs = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32 if x.dtype == np.float64 else None), inputs)
    return jax.tree.map(np.asarray, compiled(name)(inputs))


def rows_that_matter(inputs):
    return np.isfinite(inputs.rewards) & (inputs.lengths > 0)


@every_estimator
def test_t18_finite_and_unscorable_rows_weigh_nothing(name):
    inputs = random_batch()
    result = run(name, inputs)
    ignored = ~rows_that_matter(inputs)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))
    assert set(np.unique(result.weights)) <= {0.0, 1.0}
    assert not result.weights[ignored].any()
    assert not result.values[ignored].any()
    if name in GROUP_RELATIVE:
        lone = np.isin(inputs.groups, (-2, 5, 11))
        np.testing.assert_array_equal(result.weights, ~ignored & ~lone)
        assert not result.values[lone].any()


@every_estimator
def test_t18_nothing_is_scorable(name):
    inputs = random_batch()
    result = run(name, inputs._replace(rewards=np.full(ROWS, NAN, np.float32)))
    assert not any(leaf.any() for leaf in jax.tree.leaves(result))


@every_estimator
def test_what_does_not_count_is_never_read(name):
    """Masked slots, and every field of a row without a reward."""
    inputs = random_batch()
    drop = ~rows_that_matter(inputs)
    used = inputs.mask & ~drop[:, None]
    dirty = {field: np.where(used, getattr(inputs, field), NAN) for field in ("values", "old_logp", "sum_pi_squared")}
    dirty["greedy_rewards"] = np.where(drop, INF, inputs.greedy_rewards)
    dirty["reward_components"] = np.where(drop[:, None], INF, inputs.reward_components)
    for actual, expected in zip(run(name, inputs._replace(**dirty)), run(name, inputs), strict=True):
        np.testing.assert_array_equal(actual, expected)


@every_estimator
def test_t21_rows_in_any_order_and_any_group_ids(name):
    inputs, order = random_batch(), np.random.default_rng(3).permutation(ROWS)
    result = run(name, inputs)
    moved = jax.tree.map(lambda x: x[order], inputs._replace(groups=inputs.groups * 13 - 5))
    for actual, expected in zip(run(name, moved), result, strict=True):
        if expected is not None:
            np.testing.assert_allclose(actual, expected[order], atol=1e-6)


@every_estimator
def test_compiled_is_the_same(name):
    inputs = random_batch()
    plain = ESTIMATORS[name](jax.tree.map(jnp.asarray, inputs))
    for actual, expected in zip(run(name, inputs), plain, strict=True):
        if expected is not None:
            np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize(("name", "dtype"), [*((name, np.float32) for name in GROUP_RELATIVE),
                                             ("group_normalized", jnp.bfloat16), ("gdpo", jnp.bfloat16)])
def test_t17_equal_rewards_give_exactly_zero(name, dtype):
    """The rounded mean of equal rewards differs from them: 0.1, 0.7, 1/3 and 0.9 in groups of 2 to 17."""
    for size in (2, 3, 7, 8, 17):
        groups = np.arange(ROWS) // size
        for reward in (0.1, 0.7, 1 / 3, 0.9):
            rewards = np.full(ROWS, reward, dtype)
            inputs = random_batch()._replace(rewards=rewards, groups=groups, reward_components=rewards[:, None])
            assert not run(name, inputs).values.any()


@pytest.mark.parametrize("name", ["reinforce_plus_plus", "reinforce_plus_plus_baseline"])
def test_t17_a_constant_batch_is_whitened_to_zero(name):
    inputs = random_batch()._replace(rewards=np.full(ROWS, 0.7, np.float32))
    assert not run(name, inputs).values.any()


@pytest.mark.parametrize("name", [*GROUP_RELATIVE, "reinforce_plus_plus_baseline"])
def test_a_constant_added_to_all_rewards_changes_nothing(name):
    inputs = random_batch()
    moved = inputs._replace(rewards=inputs.rewards + 2, reward_components=inputs.reward_components + 2)
    if name == "gpg_nonzero":
        assert np.abs(run(name, moved).values - run(name, inputs).values).max() > 0.1
    else:
        np.testing.assert_allclose(run(name, moved).values, run(name, inputs).values, atol=2e-5)


@pytest.mark.parametrize("name", ["group_normalized", "dr_grpo", "rloo", "gpg", "grpo_passk", "opo"])
def test_group_relative_advantages_balance(name):
    """They sum to 0 over a group (weighted by length for OPO); only the best answer gets credit under pass@k."""
    inputs = random_batch()
    values = run(name, inputs).values
    for group in np.unique(inputs.groups):
        own = values[inputs.groups == group]
        if name == "opo":
            own = own * inputs.lengths[inputs.groups == group]
        if name == "grpo_passk":
            assert (own >= 0).all()
            assert (own > 0).sum() <= 1
        else:
            np.testing.assert_allclose(own.sum(), 0, atol=1e-5)
