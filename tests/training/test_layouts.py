"""Every algorithm, with everything switched on: how an update's answers are laid out does not change its gradient.

The policy here is a table of logits by last token, so that compiling costs little; answers are packed by the code that
training uses. The same properties of the decoder itself are tested in test_update.py and tests/models.
"""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rl_reasoning.algorithms import ALGORITHMS
from rl_reasoning.losses.objective import LossInputs, look_ahead, objective_loss, totals
from rl_reasoning.losses.parts import Critic, Kl, TokenFilter
from rl_reasoning.losses.surrogate import SurrogateInputs
from rl_reasoning.training.batch import Answers
from rl_reasoning.training.packing import pack
from rl_reasoning.training.states import token_mask
from tests.compiling import COMPILE_FAST

VOCABULARY, GROUPS, SIZE, LONGEST, DEVICES = 7, 4, 3, 5, 8
RANKED = ("grpo", "gppo", "gmpo")  # with a choice of tokens by entropy, which costs one more forward pass


def answers_of(seed=0):
    rng = np.random.default_rng(seed)
    count = GROUPS * SIZE
    shape = (count, LONGEST)
    lengths = rng.integers(1, LONGEST + 1, count).astype(np.int32)
    lengths[3] = 1
    per_token = {name: rng.normal(-1.9, 0.3, shape) for name in ("old_logprobs", "ref_logprobs")}
    per_token |= {name: rng.normal(size=shape) for name in ("values", "returns")}
    weights = np.repeat(rng.random((count, 1)) > 0.2, LONGEST, 1) * (rng.random(shape) > 0.1)
    return Answers(
        prompt_ids=rng.integers(0, VOCABULARY, (GROUPS, 3)).astype(np.int32),
        prompt_lengths=rng.integers(1, 4, GROUPS), groups=np.repeat(np.arange(GROUPS, dtype=np.int32), SIZE),
        ids=rng.integers(0, VOCABULARY, shape).astype(np.int32), lengths=lengths,
        extras={**per_token, "advantages": np.repeat(rng.normal(size=(count, 1)), LONGEST, 1),
                "weights": weights.astype(float), "scale": rng.uniform(0.5, 1.5, shape),
                "rewards": rng.integers(0, 2, count).astype(float)})


def loaded(name):
    """The entry's objective with every part that any objective may have."""
    entry = ALGORITHMS[name]
    share = 0.6 if name in RANKED else 1.0
    entry = dataclasses.replace(
        entry, entropy=0.01, supervised=0.1, kl=Kl(coefficient=0.05, corrected=True), critic=Critic(coefficient=0.3),
        tokens=TokenFilter(entropy_share=share, drift=0.2))
    return entry.objective(9, reference=True)


def inputs_of(table, batch):
    logits = table["logits"][batch.tokens[batch.rows[:, None], batch.sources]]
    logp = jax.nn.log_softmax(logits)
    p = jnp.exp(logp)
    chosen = jnp.take_along_axis(logp, batch.ids[..., None], -1)[..., 0]
    values = table["value"][batch.tokens[batch.rows[:, None], batch.sources]]
    mask = token_mask(batch)
    weights = jnp.where(mask, batch.weights, 0)
    surrogate = SurrogateInputs(chosen, batch.old_logprobs, batch.advantages, weights > 0, batch.groups, batch.rewards,
                                batch.ref_logprobs, -(p * logp).sum(-1))
    return LossInputs(surrogate, mask, weights, batch.scale, jnp.square(p).sum(-1), values, batch.values, batch.returns)


def gradient(objective, table, batch, total, selected, teaches):
    def loss(table):
        inputs = inputs_of(table, batch)
        inputs = inputs._replace(surrogate=inputs.surrogate._replace(selected=selected), teaches=teaches)
        return objective_loss(objective, inputs, total)

    (value, sums), found = jax.value_and_grad(loss, has_aux=True)(table)
    return value, sums, found


def ahead(objective, table, batches):
    """What is chosen among all tokens of an update, for each of its batches; on the host."""
    if not objective.looks_ahead:
        return [(None, None)] * len(batches)
    inputs = [inputs_of(table, batch).surrogate for batch in batches]
    joined = jax.tree.map(lambda *parts: jnp.concatenate(parts), *inputs)
    # At random, but by the token's own content, so that a choice does not depend on the layout.
    found = look_ahead(objective, joined._replace(key=jax.random.key(0)))
    places = np.cumsum([0, *(len(batch.lengths) for batch in batches)])
    return [tuple(None if x is None else x[start:end] for x in found) for start, end in itertools.pairwise(places)]


def whole_total(objective, batches):
    shares = [totals(objective, jnp.where(token_mask(b), b.weights, 0), token_mask(b), jnp.asarray(b.rewards))
              for b in batches]
    return jax.tree.map(lambda *parts: jnp.maximum(sum(parts), 1), *shares)


def on_devices(batch):
    """Rows and answers split over the devices; the list of tokens, which nothing here reads, on each of them."""
    mesh = Mesh(np.array(jax.devices()[:DEVICES]), ("data",))
    return jax.tree.map(lambda x: jax.device_put(x, NamedSharding(
        mesh, PartitionSpec("data") if len(x) % DEVICES == 0 else PartitionSpec())), batch)


def assert_same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if ALGORITHMS[name].aggregation != "part_token_mean"])
def test_t21_t22_any_layout_gives_the_same_gradient(name, x64):
    objective, answers = loaded(name), answers_of()
    if name == "clip_cov":  # draws at random by position: choose all candidates, which no order can change
        objective = dataclasses.replace(objective, surrogate=functools.partial(
            objective.surrogate, fraction=1.0, covariance_low=-1.0, covariance_high=math.inf))
    rng = np.random.default_rng(1)
    table = {"logits": jnp.asarray(rng.normal(size=(VOCABULARY, VOCABULARY))),
             "value": jnp.asarray(rng.normal(size=VOCABULARY))}
    compiled = jax.jit(functools.partial(gradient, objective), compiler_options=COMPILE_FAST)

    unpacked = pack(answers, 3 + LONGEST, GROUPS * SIZE)
    [chosen] = ahead(objective, table, [unpacked])
    total = whole_total(objective, [unpacked])
    value, sums, found = expected = compiled(table, unpacked, total, *chosen)
    assert np.isfinite(value)
    assert np.abs(found["logits"]).max() > 1e-3

    packed = pack(answers.take_groups(np.array([2, 0, 3, 1])), 40, 16, rows=DEVICES)
    assert packed.segments.any(axis=1).sum() < len(unpacked.tokens)
    [chosen] = ahead(objective, table, [packed])
    assert_same(compiled(table, on_devices(packed), total, *on_devices(chosen)), expected)

    parts = [pack(answers.take_groups(np.array(groups)), 40, 16, rows=DEVICES) for groups in ([1, 2], [3, 0])]
    assert_same(whole_total(objective, parts), total)
    results = [compiled(table, on_devices(part), total, *on_devices(chosen))
               for part, chosen in zip(parts, ahead(objective, table, parts), strict=True)]
    assert_same(jax.tree.map(jnp.add, *results), (value, sums, found))
    assert compiled._cache_size() == 2  # the packed batch and its parts have one shape, so one program


def test_trl_bnpo_depends_on_the_split_and_is_the_mean_of_the_parts(x64):
    objective, answers = ALGORITHMS["bnpo"].objective(9, reference=False), answers_of()
    table = {"logits": jnp.zeros((VOCABULARY, VOCABULARY)), "value": jnp.zeros(VOCABULARY)}
    parts = [pack(answers.take_groups(np.array(groups)), 40, 12, rows=4) for groups in ([1], [3, 0, 2])]
    loss = jax.jit(lambda part, total: gradient(objective, table, part, total, None, None)[0])
    alone = [loss(part, whole_total(objective, [part])) for part in parts]
    together = [loss(part, whole_total(objective, parts)) for part in parts]
    whole = pack(answers, 40, 12)
    assert sum(together) == pytest.approx(np.mean(alone))
    assert abs(sum(together) - loss(whole, whole_total(objective, [whole]))) > 1e-3
