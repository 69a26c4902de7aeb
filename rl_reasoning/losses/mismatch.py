"""Corrections for a sampler whose probabilities differ from the trainer's.

e_t = logp - sampler_logp: give the trainer's log-probabilities of the old policy to correct a surrogate that is clipped
around it, or the current ones for a surrogate without a ratio (`reinforce`). All bounds are on the ratio
trainer / sampler. Nothing here is differentiated. Only untruncated weights of whole sequences make a gradient unbiased.
"""

import math

import jax
import jax.numpy as jnp

from rl_reasoning.arrays import Array
from rl_reasoning.losses.kl import k2, k3
from rl_reasoning.losses.surrogate import MAX_LOG_RATIO, Terms, check_shapes, clamp_log_ratio, clamp_logp, sequence_mean
from rl_reasoning.require import require, require_choice

REJECTION_LEVELS = ("token", "sequence_sum", "sequence_mean", "sequence_max")


def scale_terms(terms: Terms, weights: Array) -> Terms:
    """Terms whose values are multiplied by weights [N, T], without a gradient through them; denominators stay.

    Raises:
      ValueError: weights are not [N, T].
    """
    check_shapes(terms.weights, weights=weights)
    return terms._replace(values=terms.values * jax.lax.stop_gradient(weights))


def _log_ratio(logp: Array, sampler_logp: Array, mask: Array) -> jax.Array:
    check_shapes(mask, logp=logp, sampler_logp=sampler_logp)
    return jax.lax.stop_gradient(clamp_log_ratio(clamp_logp(logp, mask) - clamp_logp(sampler_logp, mask)))


def importance_weights(logp: Array, sampler_logp: Array, mask: Array, *, level: str = "token",
                       low: float = 0.0, high: float = 2.0, mode: str = "truncate",
                       normalized: bool = False) -> jax.Array:
    """[N, T] weights for `scale_terms`, 0 where masked.

    Args:
      logp, sampler_logp: [N, T] float.
      mask: [N, T] bool.
      level: "token" exp(e_t); "sequence" exp(sum_t e_t) on each token of the row.
      low, high: 0 <= low <= 1 <= high, ratios; `math.inf` has no upper bound.
      mode: "truncate" clamps to the bounds (TIS); "mask" puts 0 outside them (IcePop).
      normalized: divide by the mean over tokens, or over sequences, of the rows given.

    Raises:
      ValueError: unknown level or mode, bad bounds, or an array that is not [N, T] like the mask.
    """
    require_choice("level", level, ("token", "sequence"))
    require_choice("mode", mode, ("truncate", "mask"))
    require(0 <= low <= 1, "low", low, "0 <= low <= 1", "Give the smallest ratio trainer / sampler.")
    require(high >= 1, "high", high, "high >= 1", "Give the largest ratio trainer / sampler.")
    mask = jnp.asarray(mask, bool)
    ratio = _ratio(logp, sampler_logp, mask, level)
    weights = jnp.clip(ratio, low, high) if mode == "truncate" else jnp.where((ratio < low) | (ratio > high), 0, ratio)
    weights = jnp.where(mask, weights, 0)
    if normalized:
        share = mask / jnp.maximum(mask.sum(axis=1, keepdims=True), 1) if level == "sequence" else mask
        total = (weights * share).sum()
        weights = weights * share.sum() / jnp.where(total > 0, total, 1)
    return weights


def outside(logp: Array, sampler_logp: Array, mask: Array, *, level: str, low: float, high: float) -> jax.Array:
    """[N, T] bool: tokens whose ratio is beyond the bounds of `importance_weights`, which see for the arguments."""
    mask = jnp.asarray(mask, bool)
    ratio = _ratio(logp, sampler_logp, mask, level)
    return mask & ((ratio < low) | (ratio > high))


def _ratio(logp: Array, sampler_logp: Array, mask: jax.Array, level: str) -> jax.Array:
    """[N, T]: trainer / sampler, of each token or of its whole row."""
    e = _log_ratio(logp, sampler_logp, mask)
    if level == "sequence":
        e = jnp.broadcast_to(jnp.clip(e.sum(axis=1, keepdims=True), -MAX_LOG_RATIO, MAX_LOG_RATIO), e.shape)
    return jnp.exp(e)


def rejection_mask(logp: jax.Array, sampler_logp: jax.Array, mask: jax.Array, *, estimator: str = "k1",
                   level: str = "token", low: float | None = None, high: float) -> jax.Array:
    """[N, T] bool for `keep_tokens`: tokens, or whole sequences, whose mismatch is within bounds.

    Args:
      logp, sampler_logp: [N, T] float.
      mask: [N, T] bool.
      estimator: "k1" is e itself, bounded by the ratios ln low <= e <= ln high; "k2" e^2 / 2 and "k3"
        exp(e) - 1 - e have the upper bound `high`, in nats.
      level: "token"; or keep a sequence if its sum, its mean, or each of its tokens ("sequence_max") is in bounds.
      low: for "k1" only; None is 1 / high.
      high: a ratio >= 1 for "k1", else > 0.

    Raises:
      ValueError: unknown estimator or level, bad bounds, or an array that is not [N, T] like the mask.
    """
    require_choice("estimator", estimator, ("k1", "k2", "k3"))
    require_choice("level", level, REJECTION_LEVELS)
    smallest = 1 if estimator == "k1" else 0
    require(high >= smallest, "high", high, f"high >= {smallest} for {estimator}", "Give the largest mismatch to keep.")
    require(low is None or (estimator == "k1" and 0 < low <= 1), "low", low, "None; 0 < low <= 1 for k1",
            "k2 and k3 have an upper bound only.")
    mask = jnp.asarray(mask, bool)
    e = _log_ratio(logp, sampler_logp, mask)
    distance = {"k1": lambda u: u, "k2": k2, "k3": lambda u: k3(-u)}[estimator](e)
    if level == "sequence_sum":
        distance = distance.sum(axis=1, keepdims=True)
    elif level == "sequence_mean":
        distance = sequence_mean(distance, mask)
    upper = math.log(high) if estimator == "k1" else high
    lower = -math.inf if estimator != "k1" else -upper if low is None else math.log(low)
    inside = (distance >= lower) & (distance <= upper)
    if level == "sequence_max":
        inside = (inside | ~mask).all(axis=1, keepdims=True)
    return mask & inside
