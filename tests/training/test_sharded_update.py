"""One gradient, many ways: on 8 devices in several meshes, packed for them, and micro-batched (T21)."""

import dataclasses
import functools
import itertools

import jax
import numpy as np
import optax
import pytest

from rl_reasoning import losses, optim
from rl_reasoning.algorithms import ALGORITHMS
from rl_reasoning.config import RL, Mesh, Optimizer
from rl_reasoning.losses.objective import Objective
from rl_reasoning.losses.parts import Critic
from rl_reasoning.models.decoder import DecoderConfig, initialize
from rl_reasoning.parallel import ONE_PART, Shards, make_layout
from rl_reasoning.training.batch import Answers, unpacked
from rl_reasoning.training.minibatches import minibatches
from rl_reasoning.training.packing import pack
from rl_reasoning.training.state import start
from rl_reasoning.training.states import Memory, memory_of
from rl_reasoning.training.update import make_score, make_update

CONFIG = DecoderConfig(vocabulary=16, layers=2, width=16, heads=4, kv_heads=4, head_dim=4, mlp=24)
POLICY = initialize(CONFIG, jax.random.key(0))
KEY = jax.random.key(1)
SGD = optax.sgd(1.0)  # the update is the gradient itself
CLIPPED = Objective(functools.partial(losses.clipped, clip_low=0.2, clip_high=0.2), "sequence_mean_token_mean", 7,
                    entropy=0.01, critic=Critic(coefficient=0.5))


def batch_of(groups=6, size=3, longest=5):
    rng = np.random.default_rng(0)
    count = groups * size
    shape = (count, longest)
    normal = {name: rng.normal(-2.7, 0.3, shape).astype(np.float32) for name in ("old_logprobs", "ref_logprobs")}
    return Answers(
        prompt_ids=rng.integers(0, 16, (groups, 3)).astype(np.int32), prompt_lengths=rng.integers(1, 4, groups),
        groups=np.repeat(np.arange(groups, dtype=np.int32), size), ids=rng.integers(0, 16, shape).astype(np.int32),
        lengths=rng.integers(1, longest + 1, count).astype(np.int32),
        extras={**normal, "advantages": np.repeat(rng.normal(size=(count, 1)), longest, 1).astype(np.float32),
                "weights": np.repeat(rng.random((count, 1)) > 0.3, longest, 1).astype(np.float32),
                "scale": np.ones(shape, np.float32), "rewards": rng.integers(0, 2, count).astype(np.float32),
                "values": rng.normal(size=shape).astype(np.float32),
                "returns": rng.normal(size=shape).astype(np.float32)})


def with_room(answers, room):
    """The same answers where longer ones might have been."""
    def wider(array):
        return np.pad(array, [(0, 0), (0, room - array.shape[1])]) if array.ndim == 2 else array

    return dataclasses.replace(answers, ids=wider(answers.ids),
                               extras={name: wider(array) for name, array in answers.extras.items()})


def step(objective, mesh=None, microbatches=1, optimizer=SGD, room=5, memory=Memory(), answers=None, length=16,
         config=CONFIG):
    """The state after one update, and its metrics."""
    layout = make_layout(mesh or Mesh(), CONFIG.sizes)
    update = make_update(config, objective, optimizer, temperature=0.9, key=KEY, memory=memory, layout=layout)
    state = start(CONFIG, POLICY, optimizer, critic=objective.critic and objective.critic.model, layout=layout)
    [batch] = minibatches(with_room(answers or batch_of(), room), 1, microbatches, length, None,
                          shards=layout.shards if layout else ONE_PART)
    return update(state, batch)


def assert_same(one, other):
    """Parameters equal to 1e-6 of the largest change, metrics to 1e-5."""
    scale = max(jax.tree.leaves(jax.tree.map(lambda a, b: float(np.abs(a - b).max()), one[0].parameters["policy"],
                                             POLICY)))
    assert scale > 1e-3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=2e-6 * scale), one[0].parameters,
                 other[0].parameters)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), one[1], other[1])


@functools.cache
def alone():
    return step(CLIPPED)


@pytest.mark.parametrize(("mesh", "microbatches"), [(Mesh(data=2, fsdp=2, tensor=2), 3), (Mesh(fsdp=8), 1)], ids=str)
def test_t21_a_mesh_gives_the_same_gradient(mesh, microbatches):
    """Six groups do not divide over 8 devices: they are cut, and nothing changes."""
    found = step(CLIPPED, mesh, microbatches)
    assert_same(alone(), found)
    kernel = found[0].parameters["policy"]["layers"]["mlp"]["down"]["kernel"]
    assert kernel.addressable_shards[0].data.size * mesh.fsdp * mesh.tensor == kernel.size


def test_t21_rows_cut_along_their_length_give_the_same_gradient():
    """17 tokens a row do not divide by 2, nor do three answers: rows and lists are made longer."""
    found = step(CLIPPED, Mesh(data=2, context=2, tensor=2), room=12, length=17)
    assert_same(alone(), found)


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["none", "dots", "block", "full"])
@pytest.mark.parametrize("mesh", [Mesh(context=8), Mesh(data=2, fsdp=2, context=2), Mesh(context=2, tensor=4)], ids=str)
def test_t21_every_mesh_that_cuts_rows_gives_the_same_gradient(mesh, remat):
    windows = dataclasses.replace(CONFIG, windows=(6, 0))
    assert_same(step(CLIPPED, length=24, config=windows),
                step(CLIPPED, mesh, 2, length=24, config=windows, memory=Memory(remat, logits=160)))


def test_t21_states_in_a_list_and_logits_in_blocks_give_the_same_gradient():
    """Only the real tokens of ragged answers are looked up and scored."""
    [batch] = minibatches(with_room(batch_of(), 12), 1, 1, 16, None, shards=Shards(2))
    assert batch.listed.size < batch.ids.size / 2
    assert_same(alone(), step(CLIPPED, Mesh(data=2), room=12, memory=Memory("full", logits=batch.tokens.size * 5)))


@pytest.mark.parametrize("mesh", [Mesh(fsdp=2, tensor=4), *(pytest.param(mesh, marks=pytest.mark.slow) for mesh in (
    Mesh(data=8), Mesh(fsdp=4, context=2)))], ids=str)
def test_t21_mlps_by_blocks_give_the_same_gradient_on_a_mesh(mesh):
    assert_same(alone(), step(CLIPPED, mesh, memory=Memory("block", mlp_blocks=3)))


def test_the_number_of_blocks_goes_from_the_settings_to_the_mlp():
    """Equal gradients would not show it, a number that does not divide 24 does."""
    assert memory_of(RL(remat="block", mlp_blocks=5)) == Memory("block", mlp_blocks=5)
    with pytest.raises(ValueError, match=r"rl.mlp_blocks=5 does not divide the 24 of an MLP's hidden width"):
        step(CLIPPED, memory=Memory("block", mlp_blocks=5))


def test_t21_micro_batches_of_long_and_of_short_answers_give_the_same_gradient_on_a_mesh():
    """The long ones need more rows on each shard."""
    long = batch_of(4)
    answers = dataclasses.replace(long, lengths=np.where(long.groups < 2, 1, 5).astype(np.int32))
    assert_same(step(CLIPPED, answers=answers), step(CLIPPED, Mesh(data=2), microbatches=2, answers=answers))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [shape for shape in itertools.product((1, 2, 4, 8), repeat=3)
                                   if np.prod(shape) == 8 and shape[2] <= 4], ids=str)
def test_t21_every_mesh_that_divides_gives_the_same_gradient(shape):
    assert_same(alone(), step(CLIPPED, Mesh(*shape)))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ALGORITHMS if ALGORITHMS[name].aggregation != "part_token_mean"])
def test_t21_every_objective_gives_the_same_gradient_on_a_mesh(name):
    objective = ALGORITHMS[name].objective(7, reference=True)
    if name == "clip_cov":  # draws at random by position: choose all candidates, which no order can change
        objective = Objective(functools.partial(objective.surrogate, fraction=1.0, covariance_low=-1.0,
                                                covariance_high=float("inf")), objective.aggregation, 7)
    assert_same(step(objective), step(objective, Mesh(data=2, fsdp=4)))


def test_the_optimizers_state_is_split_and_donated():
    layout = make_layout(Mesh(fsdp=8), CONFIG.sizes)
    optimizer = optim.policy_and_critic(Optimizer(), 10, 1.0)
    state = start(CONFIG, POLICY, optimizer, critic=None, layout=layout)
    sizes = {leaf.size: leaf.addressable_shards[0].data.size for leaf in jax.tree.leaves(state.optimizer)}
    assert sizes[CONFIG.layers * CONFIG.width * CONFIG.mlp] == CONFIG.layers * CONFIG.width * CONFIG.mlp // 8
    update = make_update(CONFIG, Objective(losses.reinforce, "token_mean", 7), optimizer, temperature=1.0,
                         key=KEY, layout=layout)
    [batch] = minibatches(batch_of(), 1, 1, 16, None, shards=Shards(8))
    moved, metrics = update(state, batch)
    assert metrics["optimizer/skipped"] == 0
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.parameters, state.optimizer)))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(POLICY))
    assert all(jax.tree.leaves(jax.tree.map(lambda leaf, place: leaf.sharding == place, moved,
                                            layout.parameters(moved))))


def test_scores_come_back_in_the_order_of_the_answers():
    answers, layout = batch_of(), make_layout(Mesh(data=4, fsdp=2), CONFIG.sizes)
    mask = answers.mask
    [one], [eight] = minibatches(answers, 1, 1, 16, None), minibatches(answers, 1, 2, 16, None, shards=Shards(8))
    expected = unpacked(one, np.asarray(make_score(CONFIG, 1.0)({"policy": POLICY}, one).logp))
    scored = make_score(CONFIG, 1.0, layout=layout)({"policy": layout.place(POLICY)}, eight)
    np.testing.assert_allclose(np.where(mask, unpacked(eight, np.asarray(scored.logp)), 0),
                               np.where(mask, expected, 0), atol=1e-6)


@pytest.mark.parametrize("groups", [8, 6, 1])
def test_a_shard_has_the_rows_of_its_own_answers(groups):
    answers = batch_of(groups)
    batch = pack(answers, 16, groups * 3, shards=Shards(4))
    rows, count = len(batch.tokens) // 4, len(batch.ids) // 4
    owner = np.repeat(np.arange(4), count)[batch.lengths > 0]
    np.testing.assert_array_equal(batch.rows[batch.lengths > 0] // rows, owner)
    assert sorted(batch.places[batch.lengths > 0]) == list(range(groups * 3))
    np.testing.assert_array_equal(unpacked(batch, batch.groups), answers.groups)
    np.testing.assert_array_equal(unpacked(batch, batch.ids), answers.ids)
    assert (batch.branches > 0).sum() == answers.lengths.sum()
    loads = [(batch.segments[shard * rows:(shard + 1) * rows] > 0).sum() for shard in range(4)]
    assert max(loads) - min(loads) <= 2 * (answers.lengths.max() + 3) * (3 if groups == 8 else 1)
