"""Leaving tokens or sequences out of a loss, and the two ways to count what was left out.

Compute advantages from the original mask: a rejected token must not change a return or a baseline.
"""

import jax
import jax.numpy as jnp

from rl_reasoning.arrays import Array
from rl_reasoning.losses.surrogate import (
    Terms,
    check_shapes,
    clamp_log_ratio,
    clamp_logp,
    sequence_mean,
    zero_where_masked,
)
from rl_reasoning.require import require, require_choice


def keep_tokens(terms: Terms, keep: Array, *, denominator: str = "all") -> Terms:
    """Terms in which tokens outside `keep` are worth nothing.

    Args:
      terms: any terms.
      keep: [N, T] bool.
      denominator: "all" leaves them in the denominator (what TRL does); "kept" takes them out of it too.

    Raises:
      ValueError: unknown denominator, or keep is not [N, T].
    """
    require_choice("denominator", denominator, ("all", "kept"))
    check_shapes(terms.weights, keep=keep)
    weights = terms.weights if denominator == "all" else jnp.where(keep, terms.weights, 0)
    return terms._replace(values=jnp.where(keep, terms.values, 0), weights=weights)


def entropy_quantile_mask(entropy: jax.Array, mask: Array, *, share: float = 0.2) -> jax.Array:
    """[N, T] bool: the `share` of valid tokens with the highest entropy, ties included (arXiv 2506.01939).

    The quantile is taken over the rows given, with linear interpolation; share=1 keeps all, 0 only the maximum.

    Raises:
      ValueError: share outside [0, 1], or entropy is not [N, T] like the mask.
    """
    require(0 <= share <= 1, "share", share, "0 <= share <= 1", "Give the share of tokens to keep, such as 0.2.")
    check_shapes(mask, entropy=entropy)
    mask = jnp.asarray(mask, bool)
    entropy = jax.lax.stop_gradient(zero_where_masked(entropy, mask))
    threshold = jnp.nanquantile(jnp.where(mask, entropy, jnp.nan), 1 - share)
    return mask & (entropy >= threshold)


def off_policy_mask(logp: Array, sampler_logp: Array, advantages: Array, mask: Array, *,
                    threshold: float = 0.5) -> jax.Array:
    """[N, T] bool: drops tokens of negative advantage in sequences that drifted from the policy that sampled them.

    Drift is the mean over a sequence of sampler_logp - logp, in nats a token; a positive or zero advantage is always
    kept (arXiv 2512.02556).

    Raises:
      ValueError: an array is not [N, T] like the mask.
    """
    check_shapes(mask, logp=logp, sampler_logp=sampler_logp, advantages=advantages)
    mask = jnp.asarray(mask, bool)
    log_ratio = clamp_log_ratio(clamp_logp(sampler_logp, mask) - clamp_logp(jax.lax.stop_gradient(logp), mask))
    drift = sequence_mean(log_ratio, mask)
    return mask & ((zero_where_masked(advantages, mask) >= 0) | (drift <= threshold))


def finished_mask(mask: jax.Array, finished: jax.Array) -> jax.Array:
    """[N, T] bool: overlong filtering (arXiv 2503.14476, section 3.4): truncated answers leave the loss.

    mask: [N, T] bool. finished: [N] bool, the answer ended by itself. The row's reward still counts in its group's
    baseline.
    """
    return jnp.asarray(mask, bool) & jnp.asarray(finished, bool)[:, None]
