"""Norms of each answer's gradient at the output layer equal those of automatic differentiation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.models.decoder import initialize, logits
from rl_reasoning.models.head_gradient import head_gradient_squares

GROUPS = np.array([1, 0, 1, 3, 0], np.int32)


def make_inputs(config, length):
    rng = np.random.default_rng(0)
    hidden = 2 * rng.normal(size=(5, length, config.width)).astype(np.float32)
    ids = rng.integers(0, config.vocabulary, (5, length))
    ids[:, 1] = ids[:, 0]  # a token that comes twice in one answer
    mask = np.arange(length) < np.array([length, 1, 4, 3, length - 1])[:, None]
    return hidden, ids, (mask * rng.normal(size=mask.shape)).astype(np.float32)


def gradients(config, parameters, hidden, ids, coefficients, temperature):
    """[N, ...]: the output layer's gradient of each answer, by jax.grad."""
    name = ("embed", "embedding") if config.tied else ("head", "kernel")

    def answer(table, hidden, ids, coefficients):
        logp = jax.nn.log_softmax(logits(config, {name[0]: {name[1]: table}}, hidden) / temperature)
        return (coefficients * jnp.take_along_axis(logp, ids[:, None], 1)[:, 0]).sum()

    return jax.vmap(jax.grad(answer), (None, 0, 0, 0))(parameters[name[0]][name[1]], hidden, ids, coefficients)


@pytest.mark.parametrize(("length", "tied"), [  # fewer tokens than dimensions, and more
    (6, True), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((20, False), (6, False), (20, True)))])
def test_equals_the_norm_of_the_gradient(config, length, tied):
    config = dataclasses.replace(config, tied=tied)
    parameters = initialize(config, jax.random.key(0))
    inputs = make_inputs(config, length)
    squares = jax.jit(functools.partial(head_gradient_squares, config, temperature=0.7), static_argnames="budget")
    exact = jax.jit(gradients, static_argnums=0)(config, parameters, *inputs, 0.7)
    alone = np.square(exact).sum(axis=(1, 2))
    together = np.square(jax.ops.segment_sum(exact, GROUPS, num_segments=5)).sum(axis=(1, 2))
    assert np.ptp(np.sqrt(alone)) > 1
    for budget in (2**24, 5 * length * 7):  # the vocabulary in one part, and in several of unequal sizes
        found = squares(parameters, *inputs, budget=budget)
        np.testing.assert_allclose(np.sqrt(found.answers), np.sqrt(alone), rtol=1e-5)
        assert found.groups is None
    found = squares(parameters, *inputs, groups=GROUPS, budget=5 * 20 * 9)
    np.testing.assert_allclose(np.sqrt(found.answers), np.sqrt(alone), rtol=1e-5)
    np.testing.assert_allclose(np.sqrt(found.groups), np.sqrt(together), rtol=1e-5)


def test_what_lies_beyond_an_answer_does_not_matter(config, parameters):
    hidden, ids, coefficients = make_inputs(config, 6)
    found = head_gradient_squares(config, parameters, hidden, ids, coefficients).answers
    beyond = coefficients == 0
    other = head_gradient_squares(config, parameters, np.where(beyond[..., None], 1e3, hidden),
                                  np.where(beyond, 0, ids), coefficients).answers
    np.testing.assert_allclose(found, other, rtol=1e-6)
