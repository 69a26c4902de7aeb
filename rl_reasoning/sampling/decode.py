"""The sampler: prompts and parameters in, answers with their log-probabilities out.

Each prompt is prefilled once and its keys and values serve all its samples. The whole decode is one
compiled loop, without a word to the host, that ends as soon as every row has ended.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rl_reasoning.config import Sampling
from rl_reasoning.models.decoder import (
    Cache,
    DecoderConfig,
    Parameters,
    branch_mask,
    decode_step,
    hidden_states,
    logits,
    unstack_layers,
)
from rl_reasoning.sampling.draw import draw_token
from rl_reasoning.types import Completions, Prompts, StopReason


class _Progress(NamedTuple):
    """State of the decode loop; B = P * n rows, T the most tokens, S = Lp + T cache slots.

    count: scalar, tokens drawn so far. last: [B] the newest token. done: [B] has ended.
    ids, logprobs: [B, T]. lengths: [B]. caches: one a layer.
    """

    count: jax.Array
    last: jax.Array
    done: jax.Array
    ids: jax.Array
    logprobs: jax.Array
    lengths: jax.Array
    caches: list[Cache]


@functools.partial(jax.jit, static_argnames=("config", "sampling", "eos_id"))
def generate(parameters: Parameters, prompts: Prompts, keys: jax.Array, *, config: DecoderConfig,
             sampling: Sampling, eos_id: int) -> Completions:
    """Samples n answers for each of P prompts.

    Args:
      prompts: right-padded ids [P, Lp] and lengths [P], every length at least 1.
      keys: [P, n] random keys, one an answer (`rl_reasoning.keys.per_sample`).
      sampling: temperature, support and the most tokens T of an answer.
      eos_id: the token that ends an answer; it counts as part of it.

    Returns:
      `Completions` with axes [P, n]; log-probabilities are those of the distribution sampled from.
    """
    count, samples = keys.shape
    keys, prompt_lengths = keys.reshape(-1), jnp.repeat(prompts.lengths, samples)
    slots = prompts.ids.shape[1]
    layers = unstack_layers(config, parameters)

    def next_token(state: _Progress) -> _Progress:
        at = state.count - 1
        hidden, caches = decode_step(config, parameters, layers, state.last, prompt_lengths + at,
                                     _visible(prompt_lengths, slots, sampling.max_tokens, at),
                                     state.caches, slots + at)
        return record(state._replace(caches=caches), hidden)

    def record(state: _Progress, hidden: jax.Array) -> _Progress:
        step_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, state.count)
        ids, logp = draw_token(logits(config, parameters, hidden), step_keys, sampling)
        ids, logp = jnp.where(state.done, eos_id, ids), jnp.where(state.done, 0.0, logp)
        return _Progress(state.count + 1, ids, state.done | (ids == eos_id),
                         jax.lax.dynamic_update_slice(state.ids, ids[:, None], (0, state.count)),
                         jax.lax.dynamic_update_slice(state.logprobs, logp[:, None], (0, state.count)),
                         state.lengths + ~state.done, state.caches)

    hidden, caches = _prefill(config, parameters, prompts, samples, sampling.max_tokens)
    state = jax.lax.while_loop(lambda s: (s.count < sampling.max_tokens) & ~s.done.all(), next_token,
                               record(_start(count * samples, sampling.max_tokens, caches, eos_id), hidden))
    shape = (count, samples)
    reasons = jnp.where(state.done, StopReason.EOS, StopReason.LENGTH).astype(jnp.int8)
    return Completions(state.ids.reshape(*shape, -1), state.logprobs.reshape(*shape, -1),
                       state.lengths.reshape(shape), reasons.reshape(shape))


def _start(rows: int, tokens: int, caches: list[Cache], eos_id: int) -> _Progress:
    return _Progress(jnp.int32(0), jnp.zeros(rows, jnp.int32), jnp.zeros(rows, bool),
                     jnp.full((rows, tokens), eos_id, jnp.int32), jnp.zeros((rows, tokens), jnp.float32),
                     jnp.zeros(rows, jnp.int32), caches)


def _prefill(config: DecoderConfig, parameters: Parameters, prompts: Prompts, samples: int,
             tokens: int) -> tuple[jax.Array, list[Cache]]:
    """Last hidden state [P * n, D] of each prompt, and its caches with room for the answer."""
    ids, lengths = prompts
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    segments = (positions < lengths[:, None]).astype(jnp.int32)
    hidden, cache = hidden_states(config, parameters, ids, positions, branch_mask(segments, jnp.zeros_like(ids)))
    last = jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)[:, 0]
    room = [Cache(jnp.pad(jnp.repeat(cache.keys[i], samples, 0), ((0, 0), (0, 0), (0, 0), (0, tokens))),
                  jnp.pad(jnp.repeat(cache.values[i], samples, 0), ((0, 0), (0, 0), (0, tokens), (0, 0))))
            for i in range(config.layers)]
    return jnp.repeat(last, samples, axis=0), room


def _visible(prompt_lengths: jax.Array, slots: int, tokens: int, at: jax.Array) -> jax.Array:
    """Mask [B, Lp + T]: the prompt up to its own length, then the answer's tokens 0..at."""
    slot = jnp.arange(slots + tokens)[None, :]
    return (slot < prompt_lengths[:, None]) | ((slot >= slots) & (slot <= slots + at))
