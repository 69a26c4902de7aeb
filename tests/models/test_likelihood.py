"""Chunked log-probabilities equal dense ones, forward and backward (T25)."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.config import Mesh
from rl_reasoning.models.architecture import DecoderConfig, Precision
from rl_reasoning.models.decoder import initialize, logits
from rl_reasoning.models.likelihood import log_probabilities, token_blocks, token_logprobs
from rl_reasoning.parallel import make_layout


def dense(config, parameters, hidden, ids, temperature):
    logp = jax.nn.log_softmax(logits(config, parameters, hidden) / temperature)
    # The collision probability carries no gradient.
    collision = jax.lax.stop_gradient(jnp.exp(2 * logp).sum(-1))
    return jnp.take_along_axis(logp, ids[..., None], -1)[..., 0], -(jnp.exp(logp) * logp).sum(-1), collision


def differentiated(function, *inputs):
    """The function's three statistics weighed at random, and the gradient of their sum."""
    upstream = jax.random.normal(jax.random.key(3), (3, *inputs[1].shape[:-1]))

    def scalar(parameters, hidden):
        return sum((u * x).sum() for u, x in zip(upstream, function(parameters, hidden), strict=True))

    return jax.jit(jax.value_and_grad(scalar, argnums=(0, 1)))(*inputs)


@functools.cache
def case(tied, temperature):
    """A decoder's head with hidden states and ids [3, 4], and the dense answer."""
    config = DecoderConfig(vocabulary=30, layers=1, width=8, heads=2, kv_heads=1, head_dim=4, mlp=8, tied=tied)
    parameters = initialize(config, jax.random.key(0))
    hidden = jax.random.normal(jax.random.key(1), (3, 4, config.width))
    ids = jax.random.randint(jax.random.key(2), (3, 4), 0, config.vocabulary)
    expected = differentiated(lambda p, h: dense(config, p, h, ids, temperature), parameters, hidden)
    return config, parameters, hidden, ids, expected


def assert_close(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), one, other)


@pytest.mark.parametrize("block", [1, 7, 15, 30])
@pytest.mark.parametrize(("tied", "temperature"), [(True, 1.0), (False, 0.6)])
def test_t25_blocks_of_the_vocabulary_equal_dense_with_their_gradient(block, tied, temperature):
    """30 ids are not a multiple of 7: the last block overlaps the one before."""
    config, parameters, hidden, ids, expected = case(tied, temperature)
    found = differentiated(lambda p, h: token_blocks(config, p, h, ids, temperature, block * ids.size), parameters,
                           hidden)
    assert_close(found, expected)


@pytest.mark.parametrize("budget", [90, 10_000])
def test_any_budget_gives_the_same(budget):
    config, parameters, hidden, ids, expected = case(True, 1.0)
    assert_close(differentiated(lambda p, h: token_logprobs(config, p, h, ids, budget=budget), parameters, hidden),
                 expected)


@pytest.mark.parametrize("tied", [True, False])
def test_t25_with_the_vocabulary_split_over_devices(tied):
    """Four rows over data, 30 ids over tensor in blocks of 4 each, the width over fsdp."""
    config, parameters, hidden, ids, _ = case(tied, 1.0)
    hidden, ids = jnp.concatenate([hidden, hidden[:1]]), jnp.concatenate([ids, ids[:1]])
    layout = make_layout(Mesh(data=2, fsdp=2, tensor=2), config.sizes | {"kv_heads": 2})

    def total(function):
        return jax.jit(jax.value_and_grad(lambda p, h: sum(x.sum() for x in function(p, h)[:2]), argnums=(0, 1)))

    def on_mesh(parameters, hidden):
        with layout():
            return token_blocks(config, parameters, hidden, ids, 1.0, 4 * 4 * 2)

    expected = total(lambda p, h: dense(config, p, h, ids, 1.0))(parameters, hidden)
    parameters = layout.place(parameters)
    value, (gradient, moved) = total(on_mesh)(parameters, jax.device_put(hidden, layout.answers()))
    assert_close((value, (gradient, moved)), expected)
    kernel = gradient["embed"]["embedding"] if tied else gradient["head"]["kernel"]
    assert kernel.addressable_shards[0].data.size == kernel.size // 4


def test_bf16_statistics_are_close_to_those_of_float32():
    config, parameters, hidden, ids, _ = case(True, 1.0)
    half = dataclasses.replace(config, precision=Precision(head="bfloat16"))
    one, other = (token_blocks(c, parameters, hidden, ids, 1.0, 60) for c in (config, half))
    assert one.logp.dtype == other.logp.dtype == jnp.float32
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=0.1), one, other)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("budget", [60, 120, 10_000])
def test_no_more_positions_than_dimensions_have_the_dense_gradient(budget, tied):
    """The head's gradient is then made in the other order."""
    config, parameters, hidden, ids, _ = case(tied, 1.0)
    hidden, ids = hidden[0], ids[0]
    found, expected = (differentiated(f, parameters, hidden) for f in (
        lambda p, h: token_logprobs(config, p, h, ids, budget=budget), lambda p, h: dense(config, p, h, ids, 1.0)))
    assert_close(found, expected)


@pytest.mark.parametrize(("blocks", "products"), [(1, 3), (2, 3), (3, 4)])
def test_the_logits_of_one_or_two_blocks_are_not_made_again(blocks, products):
    config, parameters, hidden, ids, _ = case(True, 1.0)

    def loss(parameters, hidden):
        return token_logprobs(config, parameters, hidden, ids, budget=ids.size * 30 // blocks).logp.sum()

    text = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(parameters, hidden).compile().as_text()
    assert len(re.findall(r" dot\(", text)) == products


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("budget", [90, 10_000])
def test_a_bf16_head_has_the_gradient_of_float32(tied, budget):
    """Of a list of tokens, too: XLA compiled a product for a CPU that it then could not compute."""
    config, parameters, hidden, ids, expected = case(tied, 1.0)
    half = dataclasses.replace(config, precision=Precision("float32", "float32", "bfloat16"))
    found = differentiated(lambda p, h: token_logprobs(half, p, h, ids, budget=budget), parameters, hidden)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0.1, atol=0.1), found[1], expected[1])


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
