"""An update's gradient does not depend on how its batch is laid out, and a bad one changes nothing."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rl_reasoning import losses
from rl_reasoning.losses import INVARIANT_AGGREGATIONS
from rl_reasoning.losses.objective import Objective
from rl_reasoning.losses.parts import Critic
from rl_reasoning.models.decoder import DecoderConfig, branch_mask, hidden_states, initialize
from rl_reasoning.models.likelihood import token_logprobs
from rl_reasoning.training.batch import Answers
from rl_reasoning.training.minibatches import minibatches
from rl_reasoning.training.state import start
from rl_reasoning.training.states import Memory
from rl_reasoning.training.update import make_gradient, make_score, make_update
from tests.compiling import as_users_have_it

CONFIG = DecoderConfig(vocabulary=11, layers=2, width=12, heads=2, kv_heads=1, head_dim=6, mlp=16)
POLICY = initialize(CONFIG, jax.random.key(0))
KEY = jax.random.key(1)
SGD = optax.sgd(1.0)  # the update is the gradient itself


def batch_of(seed=0, groups=4, size=3, longest=5):
    rng = np.random.default_rng(seed)
    count = groups * size
    shape = (count, longest)
    return Answers(
        prompt_ids=rng.integers(0, 11, (groups, 3)).astype(np.int32), prompt_lengths=rng.integers(1, 4, groups),
        groups=np.repeat(np.arange(groups, dtype=np.int32), size), ids=rng.integers(0, 11, shape).astype(np.int32),
        lengths=rng.integers(1, longest + 1, count).astype(np.int32),
        extras={"old_logprobs": rng.normal(-2.4, 0.3, shape).astype(np.float32),
                "advantages": np.repeat(rng.normal(size=(count, 1)), longest, 1).astype(np.float32),
                "weights": np.repeat(rng.random((count, 1)) > 0.3, longest, 1).astype(np.float32),
                "scale": np.ones(shape, np.float32), "ref_logprobs": rng.normal(-2.4, 0.3, shape).astype(np.float32),
                "rewards": rng.integers(0, 2, count).astype(np.float32),
                "values": rng.normal(size=shape).astype(np.float32),
                "returns": rng.normal(size=shape).astype(np.float32)})


def objective(aggregation="token_mean", value=0.0):
    surrogate = functools.partial(losses.clipped, clip_low=0.2, clip_high=0.2)
    return Objective(surrogate, aggregation, max_length=7, entropy=0.01,
                     critic=Critic(coefficient=value) if value else None)


def step(answers, kind, microbatches=1, row_length=40, order=None, remat="none"):
    """Parameters after one step of plain gradient descent, and the metrics."""
    update = make_update(CONFIG, kind, SGD, temperature=0.9, memory=Memory(remat), key=KEY)
    [batch] = minibatches(answers, 1, microbatches, row_length, order=order)
    state, metrics = update(start(CONFIG, POLICY, SGD, critic=kind.critic and kind.critic.model), batch)
    return state.parameters, {name: float(value) for name, value in metrics.items()}


def assert_same(one, other):
    """Parameters equal to 2e-6 of the largest change, metrics to 1e-5."""
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), one[0]["policy"], POLICY)
    scale = max(jax.tree.leaves(moved))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=2e-6 * scale), one[0], other[0])
    assert one[1] == pytest.approx(other[1], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("aggregation", [
    name if name == "token_mean" else pytest.param(name, marks=pytest.mark.slow) for name in INVARIANT_AGGREGATIONS])
def test_microbatches_do_not_change_the_gradient(aggregation):
    """T21."""
    kind, answers = objective(aggregation, value=0.5), batch_of()
    assert_same(step(answers, kind), step(answers, kind, microbatches=4))


@pytest.mark.parametrize("layout", [
    {"row_length": 9}, *(pytest.param(layout, marks=pytest.mark.slow) for layout in (
        {"row_length": 200}, {"order": np.array([2, 0, 3, 1]), "microbatches": 2}, {"remat": "block"},
        {"remat": "offload"}))])
def test_layout_does_not_change_the_gradient(layout):
    """T21: split groups, one group a row or many, order of the groups, recomputed activations."""
    kind, answers = objective(value=0.5), batch_of()
    assert_same(step(answers, kind), step(answers, kind, **layout))


def test_compiled_as_for_users_it_is_the_same_gradient():
    """Tests compile quicker than users do."""
    kind, answers = objective(value=0.5), batch_of()
    update = make_update(CONFIG, kind, SGD, temperature=0.9, key=KEY)
    [batch] = minibatches(answers, 1, 2, 40, order=None)
    state = start(CONFIG, POLICY, SGD, critic=kind.critic.model)
    program = update.lower(state, batch).compile(compiler_options=as_users_have_it())
    moved, metrics = program(state._replace(frozen={}), state.frozen, batch)
    assert_same(step(answers, kind, microbatches=2),
                (moved.parameters, {name: float(value) for name, value in metrics.items()}))


def test_gradient_equals_a_loss_written_from_unpacked_sequences():
    answers, kind = batch_of(1), objective()

    @jax.jit  # one program for all: what lies behind an answer no token of it sees
    @jax.grad
    def one(policy, row, start, count, old, advantage):
        mask = branch_mask(jnp.ones_like(row), jnp.zeros_like(row))
        hidden = hidden_states(CONFIG, policy, row, jnp.arange(row.shape[1])[None], mask)[0]
        here = start + jnp.arange(len(old))
        logp, entropy, _ = token_logprobs(CONFIG, policy, hidden[here - 1], row[0, here], temperature=0.9)
        ratio = jnp.exp(logp - old)
        surrogate = -jnp.minimum(ratio * advantage, jnp.clip(ratio, 0.8, 1.2) * advantage) - 0.01 * entropy
        return jnp.where(jnp.arange(len(old)) < count, surrogate, 0).sum()

    longest, weights = answers.ids.shape[1], answers.extras["weights"][:, 0]
    parts = []
    for i, (group, count) in enumerate(zip(answers.groups, answers.lengths, strict=True)):
        prompt = answers.prompt_ids[group, :answers.prompt_lengths[group]]
        row = np.zeros((1, answers.prompt_ids.shape[1] + longest), np.int32)
        row[0, :len(prompt) + count] = [*prompt, *answers.ids[i, :count]]
        parts.append(one(POLICY, row, len(prompt), count, answers.extras["old_logprobs"][i],
                         answers.extras["advantages"][i, 0]))
    tokens = weights @ answers.lengths
    gradient = jax.tree.map(lambda *each: sum(w * g for w, g in zip(weights, each, strict=True)) / tokens, *parts)
    expected = jax.tree.map(lambda p, g: p - g, POLICY, gradient)
    updated, metrics = step(answers, kind)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), updated["policy"], expected)
    [batch] = minibatches(answers, 1, 1, 40, order=None)
    alone = make_gradient(CONFIG, kind, temperature=0.9, key=KEY)(start(CONFIG, POLICY, SGD, critic=None), batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), alone["policy"], gradient)
    assert metrics["optimizer/gradient_norm"] == pytest.approx(float(optax.tree.norm(gradient)), rel=1e-5)


def test_what_lies_beyond_a_length_is_never_read():
    """T22: garbage beyond the lengths, in ids and numbers, changes nothing."""
    answers, kind = batch_of(2), objective(value=0.5)
    beyond = np.arange(answers.ids.shape[1]) >= answers.lengths[:, None]
    extras = {name: np.where(beyond, np.nan, array) if array.ndim == 2 else array
              for name, array in answers.extras.items()}
    dirty = Answers(**{**vars(answers), "ids": np.where(beyond, 10, answers.ids), "extras": extras})
    assert_same(step(answers, kind), step(dirty, kind))


def test_a_row_of_weight_zero_has_no_influence():
    answers, kind = batch_of(3), objective(value=0.5)
    off = answers.extras["weights"][:, 0] == 0
    assert off.any()
    extras = {name: np.where(off.reshape(-1, *[1] * (array.ndim - 1)), np.float32(7), array)
              for name, array in answers.extras.items()} | {"weights": answers.extras["weights"]}
    assert_same(step(answers, kind), step(Answers(**{**vars(answers), "extras": extras}), kind))


def test_a_gradient_that_is_not_finite_changes_nothing():
    """T23."""
    answers = batch_of(4)
    answers.extras["advantages"][0] = np.nan
    answers.extras["weights"][0] = 1
    adam = optax.adam(0.1)
    update = make_update(CONFIG, objective(), adam, temperature=1.0, key=KEY)
    before = start(CONFIG, POLICY, adam, critic=None)
    copy = jax.tree.map(np.array, before)
    state, metrics = update(before, minibatches(answers, 1, 1, 40, order=None)[0])
    assert metrics["optimizer/skipped"] == 1
    jax.tree.map(np.testing.assert_array_equal, state, copy)


def test_an_update_in_which_nothing_counts_changes_nothing():
    """The optimizer's momentum alone must not move the policy."""
    answers = batch_of(4)
    adam = optax.adam(0.1)
    update = make_update(CONFIG, objective(), adam, temperature=1.0, key=KEY)
    before, _ = update(start(CONFIG, POLICY, adam, critic=None), minibatches(answers, 1, 1, 40, order=None)[0])
    copy = jax.tree.map(np.array, before)
    answers.extras["weights"][:] = 0
    state, metrics = update(before, minibatches(answers, 1, 1, 40, order=None)[0])
    assert metrics["optimizer/idle"] == 1
    assert metrics["optimizer/skipped"] == 0
    jax.tree.map(np.testing.assert_array_equal, state, copy)


def test_a_separate_critic_has_a_trunk_of_its_own():
    """Its loss moves its own decoder and leaves the policy where the policy's loss alone puts it."""
    answers = batch_of(6)
    with_critic = dataclasses.replace(objective(), critic=Critic(coefficient=2.0, model="separate"))
    alone, together = step(answers, objective())[0], step(answers, with_critic)[0]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7), alone["policy"],
                 together["policy"])
    assert np.abs(together["value"]["kernel"]).max() > 0
    head = {"kernel": jnp.ones(CONFIG.width), "bias": jnp.zeros(())}
    update = make_update(CONFIG, with_critic, SGD, temperature=0.9, key=KEY)
    state = start(CONFIG, POLICY, SGD, critic="separate")
    state.parameters["value"] = head
    state, _ = update(state, minibatches(answers, 1, 1, 40, order=None)[0])
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), state.parameters["critic"], POLICY)
    assert max(jax.tree.leaves(moved)) > 1e-4


def test_the_state_is_donated():
    update = make_update(CONFIG, objective(), SGD, temperature=1.0, key=KEY)
    state = start(CONFIG, POLICY, SGD, critic=None)
    leaf = state.parameters["policy"]["embed"]["embedding"]
    update(state, minibatches(batch_of(), 1, 1, 40, order=None)[0])
    assert leaf.is_deleted()
    assert not POLICY["embed"]["embedding"].is_deleted()


def test_score_gives_values_and_log_probabilities_in_the_order_of_the_answers():
    answers = batch_of(5)
    parameters = start(CONFIG, POLICY, SGD, critic="trunk").parameters
    score = make_score(CONFIG, 1.0)
    [whole], [parts] = minibatches(answers, 1, 1, 40, order=None), minibatches(answers, 1, 4, 40, order=None)
    one, four = score(parameters, whole), score(parameters, parts)
    mask = np.arange(5) < answers.lengths[:, None]
    np.testing.assert_allclose(np.where(mask, one.logp[0], 0), np.where(mask, four.logp.reshape(12, 5), 0), atol=1e-6)
