"""One token from each row of logits: the support, the draw, and the log-probability of what was drawn."""

import jax
import jax.numpy as jnp

from rl_reasoning.config import Sampling
from rl_reasoning.models.likelihood import log_probabilities

_BLOCK = 256  # inner level of the inverse CDF: two short cumulative sums instead of one over the vocabulary


def support_logprobs(raw: jax.Array, sampling: Sampling) -> jax.Array:
    """Log-probabilities [B, V] of the distribution that is sampled: -inf outside top-k and top-p.

    Top-k is cut first, then top-p on what is left, renormalised: the smallest set of likeliest tokens whose
    mass reaches top_p, the token that crosses it included. Ties with the last token kept are kept.
    """
    logp = log_probabilities(raw, sampling.temperature)
    if 0 < sampling.top_k < logp.shape[-1]:
        least = jax.lax.top_k(logp, sampling.top_k)[0][:, -1:]
        logp = jax.nn.log_softmax(jnp.where(logp >= least, logp, -jnp.inf), axis=-1)
    if sampling.top_p < 1:
        ordered = jnp.sort(logp, axis=-1, descending=True)
        mass_before = jnp.cumsum(jnp.exp(ordered), axis=-1) - jnp.exp(ordered)
        least = jnp.min(jnp.where(mass_before < sampling.top_p, ordered, jnp.inf), axis=-1, keepdims=True)
        logp = jax.nn.log_softmax(jnp.where(logp >= least, logp, -jnp.inf), axis=-1)
    return logp


def draw(logp: jax.Array, uniforms: jax.Array) -> jax.Array:
    """Inverse-CDF sampling: the first id at which the cumulative probability exceeds the uniform number.

    Args: logp [B, V]; uniforms [B] in [0, 1).
    Returns: [B] int32; always an id of positive probability.
    """
    rows, size = logp.shape
    padded = jnp.pad(jnp.exp(logp), ((0, 0), (0, -size % _BLOCK))).reshape(rows, -1, _BLOCK)
    sums = padded.sum(axis=-1)
    cumulative = jnp.cumsum(sums, axis=-1)
    target = uniforms * cumulative[:, -1]
    block = _first_above(cumulative, target, sums)
    reached = jnp.take_along_axis(cumulative - sums, block[:, None], axis=-1)[:, 0]
    inner = jnp.take_along_axis(padded, block[:, None, None], axis=1)[:, 0]
    return block * _BLOCK + _first_above(jnp.cumsum(inner, axis=-1), target - reached, inner)


def _first_above(cumulative: jax.Array, target: jax.Array, mass: jax.Array) -> jax.Array:
    """First column whose cumulative mass exceeds the target; the heaviest one where rounding leaves none."""
    above = (cumulative > target[:, None]) & (mass > 0)
    return jnp.where(above.any(axis=-1), above.argmax(axis=-1), mass.argmax(axis=-1)).astype(jnp.int32)


def draw_token(raw: jax.Array, keys: jax.Array, sampling: Sampling) -> tuple[jax.Array, jax.Array]:
    """A token for each row and its log-probability under the distribution it was drawn from.

    At temperature 0 it is the likeliest token, with its log-probability at temperature 1.

    Args: raw [B, V] logits; keys [B].
    Returns: ids [B] int32, log-probabilities [B] float32.
    """
    if sampling.temperature == 0:
        logp = log_probabilities(raw, 1.0)
        ids = logp.argmax(axis=-1).astype(jnp.int32)
    else:
        logp = support_logprobs(raw, sampling)
        ids = draw(logp, jax.vmap(jax.random.uniform)(keys))
    return ids, jnp.take_along_axis(logp, ids[:, None], axis=-1)[:, 0]
