"""Holding up entropy by treating the tokens whose covariance of advantage and log-probability is largest.

Source: arXiv 2505.22617. The covariance and the number of chosen tokens are those of the rows in one call, so a
micro-batch chooses its own: at least one token each. For a choice over a whole update, call the selection on all of its
rows first and pass the slices as `inputs.selected`. Aggregation of both: token_mean.
"""

import functools
import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp

from rl_reasoning.losses.policy import clipped
from rl_reasoning.losses.surrogate import Prepared, SurrogateInputs, Terms, prepare, require_clip, terms
from rl_reasoning.require import require


def _covariance(p: Prepared) -> jax.Array:
    """[N, T]: (A - mean A)(logp - mean logp), the means over valid tokens; 0 where masked."""
    count = jnp.maximum(p.weights.sum(), 1)
    logp = jax.lax.stop_gradient(p.logp)
    return jnp.where(p.mask, (p.advantages - p.advantages.sum() / count) * (logp - logp.sum() / count), 0)


def _largest(scores: jax.Array, eligible: jax.Array, count: jax.Array) -> jax.Array:
    """[N, T] bool: the `count` eligible tokens with the largest scores, the earlier one first in a tie."""
    order = jnp.argsort(-jnp.where(eligible, scores, -jnp.inf).ravel())
    rank = jnp.zeros_like(order).at[order].set(jnp.arange(order.size)).reshape(scores.shape)
    return eligible & (rank < count)


def _count(p: Prepared, fraction: float) -> jax.Array:
    require(0 <= fraction <= 1, "fraction", fraction, "0 <= fraction <= 1", "Give a share of the tokens, such as 2e-4.")
    return jnp.maximum(jnp.floor(fraction * p.weights.sum()), 1)


def clip_cov_selection(inputs: SurrogateInputs, *, clip_low: float = 0.2, clip_high: float = 0.2,
                       fraction: float = 2e-4, covariance_low: float = 1.0, covariance_high: float = 5.0) -> jax.Array:
    """[N, T] bool: max(1, fraction of the tokens) of those with covariance between the bounds, at random.

    Tokens that the ratio's clip already cuts are not candidates. Reads `inputs.key`.

    Raises:
      ValueError: no key, fraction outside [0, 1], covariance_low >= covariance_high, or a bad clip.
    """
    require_clip(clip_low, clip_high)
    require(covariance_low < covariance_high, "covariance_low", covariance_low, "covariance_low < covariance_high",
            f"Give a number below {covariance_high}.")
    if inputs.key is None:
        raise ValueError("key is None; allowed: a random key. Derive one for this update and pass it in the inputs.")
    p = prepare(inputs)
    ratio, covariance = jnp.exp(p.log_ratio), _covariance(p)
    cut = (p.positive & (ratio > 1 + clip_high)) | (p.negative & (ratio < 1 - clip_low))
    candidates = p.mask & ~cut & (covariance > covariance_low) & (covariance < covariance_high)
    return _largest(jax.random.uniform(inputs.key, p.mask.shape), candidates, _count(p, fraction))


def clip_cov(inputs: SurrogateInputs, *, clip_low: float = 0.2, clip_high: float = 0.2, fraction: float = 2e-4,
             covariance_low: float = 1.0, covariance_high: float = 5.0) -> Terms:
    """`clipped`, with the selected tokens removed from the numerator.

    `measures` adds `selected`. Raises: see `clip_cov_selection`; the key is not needed with `inputs.selected`.
    """
    selected = inputs.selected
    if selected is None:
        selected = clip_cov_selection(inputs, clip_low=clip_low, clip_high=clip_high, fraction=fraction,
                                      covariance_low=covariance_low, covariance_high=covariance_high)
    result = clipped(inputs, clip_low=clip_low, clip_high=clip_high)
    return result._replace(values=jnp.where(selected, 0, result.values),
                           measures={**result.measures, "selected": selected * result.weights})


def kl_cov_selection(inputs: SurrogateInputs, *, fraction: float = 2e-4) -> jax.Array:
    """[N, T] bool: the max(1, fraction of the tokens) with the largest covariance.

    Raises:
      ValueError: fraction outside [0, 1].
    """
    p = prepare(inputs)
    return _largest(_covariance(p), p.mask, _count(p, fraction))


def kl_cov(inputs: SurrogateInputs, *, fraction: float = 2e-4, penalty: float = 0.1) -> Terms:
    """The ratio's surrogate without a clip, plus penalty * |logp - old_logp| on the selected tokens.

    c = -r A + penalty * sign(logp - old_logp) where selected. At the old policy
    the penalty has no gradient. `measures` adds `selected`.

    Raises:
      ValueError: penalty < 0, or fraction outside [0, 1].
    """
    require(penalty >= 0, "penalty", penalty, "penalty >= 0",
            "Give 0.1, the released value.")
    p = prepare(inputs)
    selected = kl_cov_selection(inputs, fraction=fraction) if inputs.selected is None else inputs.selected
    ratio = jnp.exp(p.log_ratio)
    distance = p.log_ratio * jnp.sign(jax.lax.stop_gradient(p.log_ratio))
    loss = -ratio * p.advantages + jnp.where(selected, penalty * distance, 0)
    result = terms(loss, p, ratio, jnp.zeros_like(p.mask))
    return result._replace(measures={**result.measures, "selected": selected * p.weights})


_SELECTIONS = {clip_cov: clip_cov_selection, kl_cov: kl_cov_selection}


def selection_of(surrogate: Callable[..., Terms]) -> Callable[[SurrogateInputs], jax.Array] | None:
    """The choice of tokens that belongs to a surrogate, with the surrogate's own options; None if it makes none."""
    function, options = surrogate, {}
    if isinstance(surrogate, functools.partial):
        function, options = surrogate.func, surrogate.keywords
    select = _SELECTIONS.get(function)
    if select is None:
        return None
    known = inspect.signature(select).parameters
    return functools.partial(select, **{name: value for name, value in options.items() if name in known})
