"""A decoder's logits both ways: the whole sequence at once, and one token at a time against the cache."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.models.cache import Cache, empty_cache
from rl_reasoning.models.decoder import (
    Parameters,
    branch_mask,
    extend,
    hidden_states,
    logits,
    unstack_layers,
)
from rl_reasoning.models.rotary import rotation


@functools.partial(jax.jit, static_argnames="config")
def forward_pass(config: DecoderConfig, parameters: Parameters, ids: jax.Array) -> jax.Array:
    """Logits [B, L, V] of the full pass, inside or outside of a transformation."""
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    mask = branch_mask(jnp.ones_like(ids), jnp.zeros_like(ids))
    return logits(config, parameters, hidden_states(config, parameters, ids, positions, mask))


@functools.partial(jax.jit, static_argnames="config")
def _step(config: DecoderConfig, parameters: Parameters, ids: jax.Array, at: jax.Array,
          caches: list[Cache]) -> tuple[jax.Array, list[Cache]]:
    distance = jnp.broadcast_to(at - jnp.arange(ids.shape[1]), (len(ids), 1, ids.shape[1]))
    tokens, turn = jax.lax.dynamic_slice_in_dim(ids, at, 1, axis=1), rotation(config, jnp.full((len(ids), 1), at))
    hidden, caches = extend(config, unstack_layers(config, parameters), tokens, turn, distance, caches, at)
    return logits(config, parameters, hidden[:, 0]), caches


def forward(config: DecoderConfig, parameters: Parameters, tokens: list[list[int]]) -> np.ndarray:
    """The same as a numpy array."""
    return np.asarray(forward_pass(config, parameters, jnp.asarray(tokens)))


def decoded(config: DecoderConfig, parameters: Parameters, tokens: list[list[int]]) -> np.ndarray:
    """The same from cached decoding."""
    ids = jnp.asarray(tokens)
    rows, length = ids.shape
    caches = empty_cache(config, rows, length)
    found = []
    for at in range(length):
        values, caches = _step(config, parameters, ids, at, caches)
        found.append(values)
    return np.stack(found, axis=1)
