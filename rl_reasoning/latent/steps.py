"""The jitted parts of a latent search: read latents and move them.

Shape letters: B problems side by side, Lp prompt tokens, M most latents of a problem, T most tokens of an answer,
D width. Every problem has its own number of latents, 0..M; nothing here is compiled again for other lengths.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rl_reasoning import optim
from rl_reasoning.config import Latent
from rl_reasoning.models.decoder import DecoderConfig, Parameters, hidden_states, row_mask
from rl_reasoning.models.likelihood import over_vocabulary, token_logprobs
from rl_reasoning.sampling.draw import draw
from rl_reasoning.types import Prompts


class Latents(NamedTuple):
    """What is searched. values: [B, M, D] float32. tokens: [B, M], those of the latest answer. sizes: [B], how many
    latents a problem has. optimizer: its state, with a leading axis B."""

    values: jax.Array
    tokens: jax.Array
    sizes: jax.Array
    optimizer: Any


@jax.jit
def extend(prompts: Prompts, beginnings: jax.Array, sizes: jax.Array) -> Prompts:
    """Prompts [B, Lp + M]: each followed by the first `sizes` tokens of its answer."""
    width = beginnings.shape[1]
    ids = jnp.pad(prompts.ids, ((0, 0), (0, width)))
    offset = jnp.arange(ids.shape[1]) - prompts.lengths[:, None]
    given = jnp.take_along_axis(beginnings, jnp.clip(offset, 0, width - 1), axis=1)
    ids = jnp.where((offset >= 0) & (offset < sizes[:, None]), given, ids)
    return Prompts(ids, prompts.lengths + sizes)  # type: ignore[arg-type]  # traced, they are on a device


@functools.partial(jax.jit, static_argnames="config")
def states(parameters: Parameters, prompts: Prompts, tokens: jax.Array, sizes: jax.Array, *,
           config: DecoderConfig) -> jax.Array:
    """Final hidden states [B, L + 1, D] before each token of an answer, and after its last.

    Args: tokens [B, L], of which the first `sizes` [B] count; states beyond them mean nothing.
    """
    ids, lengths = extend(prompts, tokens, sizes)
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    segments = (positions < lengths[:, None]).astype(jnp.int32)
    hidden = hidden_states(config, parameters, ids, positions, row_mask(config, segments, jnp.zeros_like(ids)))
    before = prompts.lengths[:, None] - 1 + jnp.arange(tokens.shape[1] + 1)
    return jnp.take_along_axis(hidden, before[:, :, None], axis=1)


@functools.partial(jax.jit, static_argnames=("config", "settings"))
def read_latents(parameters: Parameters, prompts: Prompts, tokens: jax.Array, sizes: jax.Array, *,
                 config: DecoderConfig, settings: Latent) -> Latents:
    """The hidden states from which the first tokens of answers were chosen.

    Args: tokens [B, M]: each answer's first ones, of which `sizes` [B] are to be searched.
    """
    values = states(parameters, prompts, tokens, sizes, config=config)[:, :-1].astype(jnp.float32)
    return Latents(values, tokens, sizes, jax.vmap(_optimizer(settings).init)(values))


@functools.partial(jax.jit, static_argnames="config")
def mean_logprobs(parameters: Parameters, prompts: Prompts, ids: jax.Array, lengths: jax.Array, *,
                  config: DecoderConfig) -> jax.Array:
    """[B]: the mean log-probability of each answer's tokens. ids: [B, T]."""
    hidden = states(parameters, prompts, ids, lengths, config=config)[:, :-1]
    logp = token_logprobs(config, parameters, hidden, ids).logp
    return jnp.where(jnp.arange(ids.shape[1]) < lengths[:, None], logp, 0.0).sum(axis=1) / lengths


def log_likelihood(parameters: Parameters, config: DecoderConfig, values: jax.Array, tokens: jax.Array,
                   weights: jax.Array) -> jax.Array:
    """sum_t w_t ln softmax(W z_t)[x_t], of which a step climbs the gradient w_t W^T (onehot(x_t) - softmax(W z_t)).

    With w = R - b this is the policy gradient of arXiv 2505.13308, equation 5: positions do not depend on each other.

    Args: values [..., D], tokens and weights [...].
    """
    return (weights * token_logprobs(config, parameters, values, tokens).logp).sum()


@functools.partial(jax.jit, static_argnames=("config", "settings"))
def climb(parameters: Parameters, latents: Latents, weights: jax.Array, keys: jax.Array, *, config: DecoderConfig,
          settings: Latent) -> Latents:
    """One step of policy gradient and the tokens of the moved latents.

    Args:
      weights: [B, M], the reward of each token less the baseline.
      keys: [B], of the tokens when they are drawn.
    """
    used = _used(latents)
    gradient = jax.grad(lambda values: -log_likelihood(parameters, config, values, latents.tokens,
                                                       jnp.where(used, weights, 0.0)))(latents.values)
    change, state = jax.vmap(_optimizer(settings).update)(gradient, latents.optimizer, latents.values)
    values = jnp.where(used[:, :, None], latents.values + change, latents.values)
    tokens = _tokens(parameters, config, values, keys, settings)
    return Latents(values, jnp.where(used, tokens, latents.tokens), latents.sizes, state)


@functools.partial(jax.jit, static_argnames=("config", "settings"))
def wander(parameters: Parameters, latents: Latents, weights: jax.Array, keys: jax.Array, *, config: DecoderConfig,
           settings: Latent) -> Latents:
    """A random step instead of `climb`'s: every coordinate moves by a normal number times `settings.noise`."""
    del weights  # the walk does not look where it goes
    noise_keys, token_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    noise = jax.vmap(lambda key: jax.random.normal(key, latents.values.shape[1:]))(noise_keys)
    used = _used(latents)
    values = latents.values + settings.noise * jnp.where(used[:, :, None], noise, 0.0)
    tokens = _tokens(parameters, config, values, token_keys, settings)
    return latents._replace(values=values, tokens=jnp.where(used, tokens, latents.tokens))


@jax.jit
def replace(latents: Latents, fresh: Latents, where: jax.Array) -> Latents:
    """Latents with those of some problems, where [B] bool, taken from `fresh`."""
    return jax.tree.map(lambda new, old: jnp.where(where.reshape(-1, *[1] * (new.ndim - 1)), new, old), fresh, latents)


def _used(latents: Latents) -> jax.Array:
    """[B, M] bool: a problem's own latents."""
    return jnp.arange(latents.tokens.shape[1]) < latents.sizes[:, None]


def _tokens(parameters: Parameters, config: DecoderConfig, values: jax.Array, keys: jax.Array,
            settings: Latent) -> jax.Array:
    """[B, M]: each latent's likeliest token, or one drawn at temperature 1."""
    uniforms = jax.vmap(lambda key: jax.random.uniform(key, values.shape[1:2]))(keys)

    def choose(logp: jax.Array, uniform: jax.Array) -> jax.Array:
        return draw(jnp.exp(logp), uniform) if settings.tokens == "sample" else logp.argmax(axis=-1).astype(jnp.int32)

    return over_vocabulary(choose, config, parameters, values, uniforms)


def _optimizer(settings: Latent) -> Any:
    """Each problem has a state of its own, so its own step count and its own gradient norm."""
    return optim.make(settings.optimizer, settings.steps)
