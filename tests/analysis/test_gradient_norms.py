"""Norms and spread of the answers' gradients, from packed batches, against one gradient after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.analysis.gradient_norms import make_full_norms, make_head_norms, make_spread, measure
from rl_reasoning.models.decoder import DecoderConfig, branch_mask, hidden_states, initialize
from rl_reasoning.models.likelihood import token_logprobs
from rl_reasoning.training.batch import Answers
from rl_reasoning.training.minibatches import alone
from rl_reasoning.training.packing import pack, pack_alike, stack

CONFIG = DecoderConfig(vocabulary=11, layers=1, width=12, heads=2, kv_heads=1, head_dim=6, mlp=16, tied=False)
SIZES = (3, 1, 2)


@pytest.fixture(name="answers", scope="module")
def some_answers():
    rng, count = np.random.default_rng(0), sum(SIZES)
    per_token = {name: np.ones((count, 4), np.float32)
                 for name in ("old_logprobs", "scale", "ref_logprobs", "values", "returns")}
    return Answers(
        rng.integers(0, 11, (3, 3)).astype(np.int32), np.array([3, 1, 2]),
        np.repeat(np.arange(3, dtype=np.int32), SIZES),
        rng.integers(0, 11, (count, 4)).astype(np.int32), rng.integers(1, 5, count).astype(np.int32),
        extras=per_token | {"advantages": np.repeat(rng.normal(size=(count, 1)), 4, 1).astype(np.float32),
                            "weights": np.ones((count, 4), np.float32), "rewards": np.ones(count, np.float32)})


@pytest.fixture(name="policy", scope="module")
def some_policy():
    return jax.tree.map(lambda leaf: 3 * leaf, initialize(CONFIG, jax.random.key(0)))


@pytest.fixture(name="gradients", scope="module")
def one_after_the_other(answers, policy):
    """Each answer's gradient of the sum of its tokens' log-probabilities at temperature 0.8."""
    def logp(policy, tokens, ids, mask, before):
        row = jnp.arange(7)[None]
        hidden = hidden_states(CONFIG, policy, tokens[None], row, branch_mask(jnp.ones_like(row), 0 * row))
        predicting = hidden[0, before - 1 + jnp.arange(4)]
        found = token_logprobs(CONFIG, policy, predicting, ids, temperature=0.8).logp
        return jnp.where(mask, found, 0).sum()

    found = []
    gradient = jax.jit(jax.grad(logp))
    for i, group in enumerate(answers.groups):
        before = answers.prompt_lengths[group]
        tokens = np.zeros(7, np.int32)
        tokens[:before], tokens[before:before + 4] = answers.prompt_ids[group, :before], answers.ids[i]
        found.append(gradient(policy, tokens, answers.ids[i], answers.mask[i], before))
    return found


def norm(gradient):
    return np.sqrt(sum(float(np.square(leaf).sum()) for leaf in jax.tree.leaves(gradient)))


def test_norms_equal_those_of_one_backward_pass_after_the_other(answers, policy, gradients):
    packed = stack([pack(answers, 20, sequences=8)])
    found = make_head_norms(CONFIG, 0.8)(policy, {}, packed)
    np.testing.assert_allclose(found[0, :6], [norm(each["head"]) for each in gradients], rtol=1e-5)
    assert not found[0, 6:].any()


@pytest.mark.slow
@pytest.mark.parametrize("one_by_one", [False, True])
def test_any_number_of_answers_is_measured_in_one_shape(answers, policy, gradients, one_by_one):
    shapes = []
    exact = (make_full_norms if one_by_one else make_head_norms)(CONFIG, 0.8)

    def norms(*arguments):
        shapes.append(tuple(leaf.shape for leaf in arguments[-1]))
        return exact(*arguments)

    many = alone(answers, np.arange(19) % 6)
    found = measure(norms, policy, {}, many, one_by_one=one_by_one)
    expected = [norm(each if one_by_one else each["head"]) for each in gradients]
    np.testing.assert_allclose(found, np.asarray(expected)[np.arange(19) % 6], rtol=1e-5)
    assert len(shapes) == 2
    assert len(set(shapes)) == 1
    assert norm(gradients[0]) > 1.1 * norm(gradients[0]["head"])
    assert len(measure(norms, policy, {}, alone(answers, np.arange(0)), one_by_one=one_by_one)) == 0


def test_spread_is_the_sample_covariance(answers, policy, gradients):
    """Of advantage times gradient; the problem with one answer says nothing."""
    packed = stack(pack_alike([answers.take_groups(np.array(chosen)) for chosen in ([0, 1], [2])], 20, sequences=4))
    found = make_spread(CONFIG, 0.8)(policy, packed)
    pulls = np.stack([a * np.asarray(each["head"]["kernel"]).ravel()
                      for a, each in zip(answers.extras["advantages"][:, 0], gradients, strict=True)])
    expected = [pulls[answers.groups == group].var(axis=0, ddof=1).sum() for group in (0, 2)]
    assert found.counts.tolist() == [3, 1, 2]
    np.testing.assert_allclose(found.variances, [expected[0], np.nan, expected[1]], rtol=1e-4)
    measured = found.compared(np.array([2.0, 1, 1]))
    np.testing.assert_allclose(measured, [(4 * expected[0] / 3 + expected[1] / 2) / 4,
                                          (4 * expected[0] + expected[1]) / 2.5 / 4], rtol=1e-4)
    assert found.compared(np.array([np.inf, 1, np.nan])) == (0, 0)
