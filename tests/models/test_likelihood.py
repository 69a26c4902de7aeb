"""Chunked log-probabilities equal dense ones, forward and backward (T25)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.models.decoder import logits
from rl_reasoning.models.likelihood import log_probabilities, token_logprobs


def dense(config, parameters, hidden, ids, temperature):
    logp = jax.nn.log_softmax(logits(config, parameters, hidden) / temperature)
    # The collision probability carries no gradient.
    collision = jax.lax.stop_gradient(jnp.exp(2 * logp).sum(-1))
    return jnp.take_along_axis(logp, ids[..., None], -1)[..., 0], -(jnp.exp(logp) * logp).sum(-1), collision


@pytest.mark.parametrize("chunk", [1, 5, 12, 1000])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_chunked_equals_dense_with_its_gradient(config, parameters, chunk, temperature):
    hidden = jax.random.normal(jax.random.key(1), (3, 4, config.width))
    ids = jax.random.randint(jax.random.key(2), (3, 4), 0, config.vocabulary)
    upstream = jax.random.normal(jax.random.key(3), (3, 3, 4))

    def scalar(function):
        return lambda *inputs: sum((u * x).sum() for u, x in zip(upstream, function(*inputs), strict=True))

    budget = chunk * config.vocabulary
    chunked = scalar(lambda p, h: token_logprobs(config, p, h, ids, temperature=temperature, budget=budget))
    whole = scalar(lambda p, h: dense(config, p, h, ids, temperature))
    ours, theirs = (jax.value_and_grad(f, argnums=(0, 1))(parameters, hidden) for f in (chunked, whole))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, theirs)


def test_peak_memory_is_bounded_by_the_chunk(config):
    """Forward and backward over 4,096 positions never hold the logits of more than a few chunks."""
    vocabulary, positions, chunk = 5_000, 4_096, 64
    wide = dataclasses.replace(config, vocabulary=vocabulary)
    table = {"embed": {"embedding": jnp.zeros((vocabulary, 8))}}
    hidden, ids = jnp.zeros((positions, 8)), jnp.zeros(positions, jnp.int32)

    def loss(table, hidden):
        return token_logprobs(wide, table, hidden, ids, budget=chunk * vocabulary)[0].sum()

    compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(table, hidden).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 10 * chunk * vocabulary * 4 < positions * vocabulary * 4 / 5


def test_bf16_logits_are_normalised_in_float32():
    raw = jax.random.normal(jax.random.key(4), (2, 1000)).astype(jnp.bfloat16)
    logp = log_probabilities(raw, 1.0)
    assert logp.dtype == jnp.float32
    np.testing.assert_allclose(jnp.exp(logp).sum(-1), 1.0, atol=1e-5)
