"""Where a push at one token moves probability."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.analysis.logit_gradient import make_analysis, movement
from rl_reasoning.losses import SurrogateInputs, reinforce
from rl_reasoning.models.decoder import DecoderConfig, initialize
from rl_reasoning.training.batch import Answers
from rl_reasoning.training.packing import pack, pack_alike, stack


def random_logits(seed=0, shape=(6, 9)):
    return 2 * np.random.default_rng(seed).normal(size=shape)


def test_is_the_derivative_of_the_probabilities_along_the_gradient():
    """Against a small step with jax's own gradient of the loss of pushing the token down (advantage -1)."""
    with jax.enable_x64(True):
        logits, ids, step = jnp.asarray(random_logits()), jnp.array([0, 3, 8, 1, 1, 5]), 1e-6

        def loss(logits):
            logp = jnp.take_along_axis(jax.nn.log_softmax(logits), ids[:, None], 1)
            ones = jnp.ones_like(logp)
            return reinforce(SurrogateInputs(logp, logp, -ones, ones > 0, ids, ids)).values.sum()

        before, after = jax.nn.softmax(logits), jax.nn.softmax(logits - step * jax.grad(loss)(logits))
        change = np.asarray((after - before) / step)
        found = movement(jax.nn.log_softmax(logits), ids, top=3)
        rows = np.arange(6)
        np.testing.assert_allclose(found.sampled, change[rows, ids], atol=1e-5)
        others = np.array(before)
        others[rows, ids] = -1
        top = np.argsort(-others, axis=1)[:, :3]
        np.testing.assert_allclose(found.top, np.take_along_axis(change, top, 1).sum(1), atol=1e-5)
        np.testing.assert_allclose(sum(found), 0, atol=1e-12)


def test_the_worked_example_of_negative_reinforcement():
    """p = (1/6, 2/6, 3/6), the likeliest is wrong: it loses 7/36, and the others gain in the ratio of their worth."""
    found = movement(jnp.log(jnp.array([[1, 2, 3]]) / 6), jnp.array([2]), top=1)
    s = (1 + 4 + 9) / 36
    np.testing.assert_allclose(found.sampled, -(3 / 6) * (1 - 1 + s), rtol=1e-5)
    np.testing.assert_allclose(found.top, (2 / 6) * (2 / 6 + 3 / 6 - s), rtol=1e-5)
    np.testing.assert_allclose(found.tail, (1 / 6) * (1 / 6 + 3 / 6 - s), rtol=1e-5)


def test_a_certain_token_and_an_unlikely_alternative():
    """At p = 1 nothing moves; pushing down a token less likely than the rest's collision starves the tail too."""
    assert np.abs(np.array(movement(jnp.log(jnp.array([[1.0, 1e-30]])), jnp.array([0])))).max() < 1e-6
    p = jnp.array([[0.05, 0.9, 0.04, 0.01]])
    found = movement(jnp.log(p), jnp.array([0]), top=1)
    assert found.top > 0
    assert found.tail < 0


def test_a_batch_is_split_into_right_and_wrong_answers_and_its_layout_does_not_matter():
    config = DecoderConfig(vocabulary=11, layers=1, width=12, heads=2, kv_heads=1, head_dim=6, mlp=16)
    policy, rng = initialize(config, jax.random.key(0)), np.random.default_rng(0)
    zeros = np.zeros((4, 3), np.float32)
    answers = Answers(
        rng.integers(0, 11, (2, 2)).astype(np.int32), np.array([2, 1]), np.array([0, 0, 1, 1], np.int32),
        rng.integers(0, 11, (4, 3)).astype(np.int32), np.array([3, 1, 2, 3], np.int32),
        extras=dict.fromkeys(("old_logprobs", "advantages", "scale", "ref_logprobs", "values", "returns"), zeros)
        | {"weights": zeros + 1, "rewards": np.array([1.0, 0.0, 0.0, 1.0], np.float32)})
    analyse = make_analysis(config, 1.0)
    whole = analyse(policy, stack([pack(answers, 20, 4)]))
    parts = analyse(policy, stack(pack_alike([answers.take_groups(np.array([g])) for g in (1, 0)], 20, 2)))
    assert {name.split("/")[1] for name in whole} == {"right", "wrong"}
    for name in whole:
        assert float(whole[name]) == pytest.approx(float(parts[name]), abs=1e-6)
    assert whole["analysis/wrong/sampled"] < 0 < whole["analysis/right/sampled"]
    for kind in ("right", "wrong"):
        assert sum(float(whole[f"analysis/{kind}/{to}"]) for to in ("sampled", "top", "tail")) == pytest.approx(
            0, abs=1e-6)
    answers.extras["rewards"][:] = 1
    assert analyse(policy, stack([pack(answers, 20, 4)]))["analysis/wrong/sampled"] == 0
