"""A decoder's logits both ways: the whole sequence at once, and one token at a time against the cache."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.models.decoder import (
    Cache,
    Parameters,
    branch_mask,
    decode_step,
    hidden_states,
    logits,
    unstack_layers,
)


@functools.partial(jax.jit, static_argnames="config")
def forward_pass(config: DecoderConfig, parameters: Parameters, ids: jax.Array) -> jax.Array:
    """Logits [B, L, V] of the full pass, inside or outside of a transformation."""
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    mask = branch_mask(jnp.ones_like(ids), jnp.zeros_like(ids))
    return logits(config, parameters, hidden_states(config, parameters, ids, positions, mask)[0])


@functools.partial(jax.jit, static_argnames="config")
def _step(config: DecoderConfig, parameters: Parameters, ids: jax.Array, at: jax.Array,
          caches: list[Cache]) -> tuple[jax.Array, list[Cache]]:
    seen = jnp.broadcast_to(jnp.arange(ids.shape[1]) <= at, ids.shape)
    layers, positions = unstack_layers(config, parameters), jnp.full(len(ids), at)
    hidden, caches = decode_step(config, parameters, layers, ids[:, at], positions, seen, caches, at)
    return logits(config, parameters, hidden), caches


def forward(config: DecoderConfig, parameters: Parameters, tokens: list[list[int]]) -> np.ndarray:
    """The same as a numpy array."""
    return np.asarray(forward_pass(config, parameters, jnp.asarray(tokens)))


def decoded(config: DecoderConfig, parameters: Parameters, tokens: list[list[int]]) -> np.ndarray:
    """The same from cached decoding."""
    ids, dtype = jnp.asarray(tokens), config.precision.compute
    rows, length = ids.shape
    caches = [Cache(jnp.zeros((rows, config.kv_heads, config.head_dim, length), dtype),
                    jnp.zeros((rows, config.kv_heads, length, config.head_dim), dtype)) for _ in range(config.layers)]
    found = []
    for at in range(length):
        values, caches = _step(config, parameters, ids, at, caches)
        found.append(values)
    return np.stack(found, axis=1)
