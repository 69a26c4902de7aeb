"""Losses on pairs of a preferred and a rejected answer, and on single labelled answers.

Every function gives one loss a pair [B], to be averaged by the caller. a and b are the mean log-probabilities a token
of the chosen and the rejected answer, S their sums, odds(l) = l - log(1 - exp(l)).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rl_reasoning.require import require

LARGEST_MEAN_LOGP = -1e-7


class PreferencePairs(NamedTuple):
    """B pairs.

    chosen, rejected: [B] float, log-probabilities summed over each answer; the differentiated fields.
    chosen_length, rejected_length: [B], tokens in those sums.
    ref_chosen, ref_rejected: [B] float, the same sums under the reference policy (`dpo`, `ipo`).
    """

    chosen: jax.Array
    rejected: jax.Array
    chosen_length: jax.Array
    rejected_length: jax.Array
    ref_chosen: jax.Array | None = None
    ref_rejected: jax.Array | None = None


def _require_positive(name: str, value: float) -> None:
    require(0 < value < math.inf, name, value, f"0 < {name} < inf", "Give a positive number.")


def _against_reference(pairs: PreferencePairs) -> tuple[jax.Array, jax.Array]:
    if pairs.ref_chosen is None or pairs.ref_rejected is None:
        raise ValueError("ref_chosen or ref_rejected is None; allowed: [B] sums. Score the pairs under the reference.")
    return (pairs.chosen - jax.lax.stop_gradient(pairs.ref_chosen),
            pairs.rejected - jax.lax.stop_gradient(pairs.ref_rejected))


def _means(pairs: PreferencePairs) -> tuple[jax.Array, jax.Array]:
    return (pairs.chosen / jnp.maximum(pairs.chosen_length, 1), pairs.rejected / jnp.maximum(pairs.rejected_length, 1))


def log_odds(logp: jax.Array) -> jax.Array:
    """log(p / (1 - p)) of p = exp(logp), with logp at most -1e-7: the odds of a certain answer are infinite."""
    logp = jnp.where(logp > LARGEST_MEAN_LOGP, LARGEST_MEAN_LOGP, logp)
    near = logp > -math.log(2)
    close, far = jnp.where(near, logp, -1.0), jnp.where(near, -1.0, logp)
    return logp - jnp.where(near, jnp.log(-jnp.expm1(close)), jnp.log1p(-jnp.exp(far)))


def dpo(pairs: PreferencePairs, *, beta: float = 0.1) -> jax.Array:
    """-log sigmoid(beta h), h = (S - ref S) of the chosen minus that of the rejected (arXiv 2305.18290, equation 7).

    Raises:
      ValueError: beta <= 0, or no reference.
    """
    _require_positive("beta", beta)
    chosen, rejected = _against_reference(pairs)
    return -jax.nn.log_sigmoid(beta * (chosen - rejected))


def ipo(pairs: PreferencePairs, *, beta: float = 0.1) -> jax.Array:
    """(h - 1 / (2 beta))^2, h as in `dpo` but a token: each answer's part is divided by its length.

    arXiv 2310.12036, equation 17, with the length normalisation of its authors' later advice.

    Raises:
      ValueError: beta <= 0, or no reference.
    """
    _require_positive("beta", beta)
    chosen, rejected = _against_reference(pairs)
    a, b = _means(pairs._replace(chosen=chosen, rejected=rejected))
    return jnp.square(a - b - 1 / (2 * beta))


def simpo(pairs: PreferencePairs, *, beta: float = 2.0, margin: float = 0.5) -> jax.Array:
    """-log sigmoid(beta (a - b) - margin) (arXiv 2405.14734, equation 6).

    Raises:
      ValueError: beta <= 0.
    """
    _require_positive("beta", beta)
    a, b = _means(pairs)
    return -jax.nn.log_sigmoid(beta * (a - b) - margin)


def orpo(pairs: PreferencePairs, *, weight: float = 0.1, beta: float = 1.0) -> jax.Array:
    """-a - weight * log sigmoid(beta (odds(a) - odds(b))) (arXiv 2403.07691; beta of 2502.01237).

    Raises:
      ValueError: weight or beta <= 0.
    """
    _require_positive("weight", weight)
    _require_positive("beta", beta)
    a, b = _means(pairs)
    return -a - weight * jax.nn.log_sigmoid(beta * (log_odds(a) - log_odds(b)))


def asft(pairs: PreferencePairs, *, weight: float = 0.1, beta: float = 1.0) -> jax.Array:
    """-a - weight * (log sigmoid(beta odds(a)) + log sigmoid(-beta odds(b))) (arXiv 2409.10571; beta of 2502.01237).

    At beta = 1 this is -(1 + weight) a - weight log(1 - exp(b)).

    Raises:
      ValueError: weight or beta <= 0.
    """
    _require_positive("weight", weight)
    _require_positive("beta", beta)
    a, b = _means(pairs)
    return -a - weight * (jax.nn.log_sigmoid(beta * log_odds(a)) + jax.nn.log_sigmoid(-beta * log_odds(b)))


def kto_baseline(mismatched: jax.Array, ref_mismatched: jax.Array) -> jax.Array:
    """z0 = max(0, mean of S - ref S over prompts paired with other prompts' answers), without a gradient.

    Both [B], B >= 2.

    Raises:
      ValueError: fewer than two pairs: with one, no answer is another prompt's.
    """
    size = jnp.shape(mismatched)[0]
    require(size >= 2, "the number of mismatched pairs", size, "at least 2", "Use a larger batch.")
    return jax.lax.stop_gradient(jnp.maximum((mismatched - ref_mismatched).mean(), 0))


def kto(logp: jax.Array, ref_logp: jax.Array, desirable: jax.Array, baseline: jax.Array, *, beta: float = 0.1,
        desirable_weight: float = 1.0, undesirable_weight: float = 1.0) -> jax.Array:
    """weight * (1 - sigmoid(+-beta (S - ref S - z0))), plus for desirable answers (arXiv 2402.01306).

    Args:
      logp, ref_logp: [B] float, log-probabilities summed over each answer.
      desirable: [B] bool.
      baseline: scalar, `kto_baseline`.

    Raises:
      ValueError: beta or a weight <= 0.
    """
    for name, value in (("beta", beta), ("desirable_weight", desirable_weight),
                        ("undesirable_weight", undesirable_weight)):
        _require_positive(name, value)
    sign = jnp.where(desirable, 1, -1)
    weight = jnp.where(desirable, desirable_weight, undesirable_weight)
    gain = logp - jax.lax.stop_gradient(ref_logp) - jax.lax.stop_gradient(baseline)
    return weight * jax.nn.sigmoid(-sign * beta * gain)
