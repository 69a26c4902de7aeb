"""The jitted parts against closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.latent import steps
from rl_reasoning.latent.finish import finish
from rl_reasoning.models.decoder import initialize, logits
from rl_reasoning.types import Prompts
from tests.latent import tiny

PROMPTS = tiny.POLICY.encode(tiny.PROBLEMS[:4])
KEYS = jax.random.split(tiny.KEY, 4)


GREEDY = finish(tiny.POLICY, tiny.PARAMETERS, PROMPTS, np.zeros((4, 4), np.int32), np.zeros(4, np.int32), tiny.MOST)
SIZES = np.minimum(GREEDY.lengths, [4, 2, 0, 3]).astype(np.int32)


def read(settings, tokens=GREEDY.ids[:, :4]):
    return steps.read_latents(tiny.PARAMETERS, PROMPTS, tokens, SIZES, config=tiny.CONFIG, settings=settings)


def move(latents, weights, settings, program=steps.climb):
    return program(tiny.PARAMETERS, latents, jnp.broadcast_to(weights, (4, 4)), KEYS, config=tiny.CONFIG,
                   settings=settings)


def probabilities(values):
    return jax.nn.softmax(logits(tiny.CONFIG, tiny.PARAMETERS, values))


@pytest.mark.parametrize("tied", [True, False])
def test_closed_form_gradient(tied):
    """w W^T (onehot - softmax(W z)), so with w = R the negative of section 6's dL/dz."""
    config = dataclasses.replace(tiny.CONFIG, tied=tied)
    parameters = initialize(config, jax.random.key(1))
    head = parameters["embed"]["embedding"] if tied else parameters["head"]["kernel"].T
    values = jax.random.normal(jax.random.key(2), (3, 2, 16))
    tokens, weights = jnp.array([[1, 5], [0, 11], [7, 7]]), jnp.array([[-1.0, -0.5], [0.0, 1.0], [-1 / 6, -1.0]])
    found = jax.grad(lambda z: steps.log_likelihood(parameters, config, z, tokens, weights))(values)
    p = jax.nn.softmax(values @ head.T)
    expected = weights[..., None] * ((jax.nn.one_hot(tokens, 12) - p) @ head)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_latents_are_what_the_first_tokens_were_chosen_from():
    latents = read(tiny.settings())
    for row, size in enumerate(SIZES):
        chosen = probabilities(latents.values)[row, :size].argmax(axis=-1)
        np.testing.assert_array_equal(chosen, GREEDY.ids[row, :size])


def test_a_reward_of_zero_moves_nothing_and_padding_never_moves():
    settings = tiny.settings()
    latents = read(settings)
    np.testing.assert_array_equal(move(latents, 0.0, settings).values, latents.values)
    for program in (steps.climb, steps.wander):
        moved = move(latents, -1.0, settings, program)
        own = np.arange(4) < SIZES[:, None]
        assert (np.asarray(moved.values != latents.values).any(axis=-1) == own).all()
        np.testing.assert_array_equal(np.asarray(moved.tokens)[~own], np.asarray(latents.tokens)[~own])


def test_punishment_lowers_the_likeliest_token_after_a_small_step():
    settings = tiny.settings(rate=1e-3)
    latents = read(settings)
    moved = move(latents, -1.0, settings)
    for row, size in enumerate(SIZES):
        before, after = (np.asarray(probabilities(each.values)[row, :size]) for each in (latents, moved))
        own = np.arange(size), before.argmax(axis=-1)
        assert (after[own] < before[own]).all()


def test_the_first_step_is_adams():
    """Each coordinate moves by the learning rate against its gradient's sign, whatever the gradient's size."""
    settings = tiny.settings(rate=0.01)
    latents = read(settings)
    moved = np.asarray(move(latents, -1.0, settings).values - latents.values)[np.arange(4) < SIZES[:, None]]
    np.testing.assert_allclose(np.abs(moved), 0.01, rtol=1e-2)


def test_clipping_is_a_problems_own():
    settings = tiny.settings()
    clipped = dataclasses.replace(settings, optimizer=dataclasses.replace(settings.optimizer, clip_norm=1e-9))
    weights = jnp.array([[1e-3], [-1.0], [0.0], [-1.0]])
    moved = np.abs(move(read(clipped), weights, clipped).values - read(clipped).values).max(axis=(1, 2))
    # Below Adam's epsilon of 1e-8 a step is as long as its gradient, which the clip makes 1e-9 for each problem alike.
    assert 0 < moved[[0, 1, 3]].min() < moved.max() < 0.06
    assert moved[[0, 1, 3]].min() > 0.1 * moved.max()


def test_tokens_after_a_step_are_the_moved_latents_likeliest():
    settings = tiny.settings()
    for program in (steps.climb, steps.wander):
        moved = move(read(settings), -1.0, settings, program)
        own = np.arange(4) < SIZES[:, None]
        likeliest = np.asarray(probabilities(moved.values).argmax(axis=-1))
        np.testing.assert_array_equal(np.asarray(moved.tokens)[own], likeliest[own])
        assert (np.asarray(moved.tokens)[own] != GREEDY.ids[:, :4][own]).any()


@pytest.mark.slow
def test_drawn_tokens_follow_the_latents_distribution():
    settings = tiny.settings(tokens="sample", rate=0.0)
    many = 512
    values = jnp.broadcast_to(read(settings).values[:1], (many, 4, 16))
    latents = steps.Latents(values, jnp.zeros((many, 4), jnp.int32), jnp.full(many, 4),
                            jax.vmap(steps._optimizer(settings).init)(values))
    drawn = steps.climb(tiny.PARAMETERS, latents, jnp.zeros((many, 4)), jax.random.split(tiny.KEY, many),
                        config=tiny.CONFIG, settings=settings).tokens
    share = np.asarray(jax.nn.one_hot(drawn, 12).mean(axis=0))
    np.testing.assert_allclose(share, probabilities(values[0]), atol=4 * 0.5 / many ** 0.5)


def test_prompts_are_extended_behind_their_own_lengths():
    prompts = Prompts(np.array([[5, 6, 0], [7, 0, 0]], np.int32), np.array([2, 1], np.int32))
    longer = steps.extend(prompts, np.array([[1, 2], [3, 4]], np.int32), np.array([2, 1], np.int32))
    assert longer.lengths.tolist() == [4, 2]
    assert longer.ids[0, :4].tolist() == [5, 6, 1, 2]
    assert longer.ids[1, :2].tolist() == [7, 3]
