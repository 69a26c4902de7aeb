"""Surrogates whose ratio belongs to the sequence: GSPO, LUSPO, GMPO and VESPO.

The value of a sequence stands on each of its tokens, so the aggregation decides how a sequence's length weighs. L is
the length of a sequence, d_t = logp_t - old_logp_t, s = exp(mean_t d_t), and c is the derivative with respect to one
token's log-probability, B being the number of sequences.
"""

import math

import jax
import jax.numpy as jnp

from rl_reasoning.losses.policy import clipped
from rl_reasoning.losses.surrogate import MAX_LOG_RATIO, SurrogateInputs, Terms, prepare, sequence_mean, terms
from rl_reasoning.require import require

SMALLEST_WEIGHT = 1e-8


def gspo(inputs: SurrogateInputs, *, clip_low: float = 3e-4, clip_high: float = 4e-4) -> Terms:
    """PPO's clip of the length-normalised sequence ratio: -min(s A, clip(s, 1 - clip_low, 1 + clip_high) A).

    c = -A s / (L B) unless the sequence is clipped (arXiv 2507.18071, equation 5). Aggregation:
    sequence_mean_token_mean.

    Raises:
      ValueError: clip_low outside [0, 1), or clip_high < 0.
    """
    return clipped(inputs, clip_low=clip_low, clip_high=clip_high, level="sequence")


def luspo(inputs: SurrogateInputs, *, clip_low: float = 2e-3, clip_high: float = 2.5e-3) -> Terms:
    """GSPO with each sequence weighted by its length, so that c = -A s / B does not depend on the length.

    arXiv 2602.05261. The factor is the aggregation's: sequence_mean_token_sum.

    Raises:
      ValueError: clip_low outside [0, 1), or clip_high < 0.
    """
    return clipped(inputs, clip_low=clip_low, clip_high=clip_high, level="sequence")


def gmpo(inputs: SurrogateInputs, *, clip_low: float = 0.4, clip_high: float = 0.4) -> Terms:
    """Geometric mean of ratios that are clipped first, on the side the advantage pushes to: -A exp(mean_t clip(d_t)).

    d_t is at most clip_high where A > 0 and at least -clip_low where A < 0: the bounds are distances of log-ratios,
    so 0.4 allows ratios from 0.67 to 1.49. c = -A exp(mean_t clip(d_t)) / (L B), 0 on clipped tokens (arXiv
    2507.20673). A is the mean of a row's advantages. Aggregation: sequence_mean_token_mean.

    Raises:
      ValueError: a bound that is negative or infinite.
    """
    for name, bound in (("clip_low", clip_low), ("clip_high", clip_high)):
        require(0 <= bound < math.inf, name, bound, f"0 <= {name} < inf", "Give a distance of log-ratios, such as 0.4.")
    p = prepare(inputs)
    advantages = sequence_mean(p.advantages, p.mask)
    too_high = (advantages > 0) & (p.log_ratio > clip_high)
    too_low = (advantages < 0) & (p.log_ratio < -clip_low)
    bounded = jnp.where(too_high, clip_high, jnp.where(too_low, -clip_low, p.log_ratio))
    ratio = jnp.broadcast_to(jnp.exp(sequence_mean(bounded, p.mask)), p.logp.shape)
    return terms(-advantages * ratio, p, ratio, too_high | too_low)


def vespo(inputs: SurrogateInputs, *, positive_power: float = 2.0, positive_decay: float = 3.0,
          negative_power: float = 3.0, negative_decay: float = 2.0) -> Terms:
    """REINFORCE with a detached weight of the whole sequence's ratio w = exp(sum_t d_t).

    weight = w^power exp(decay (1 - w)), 1 at w = 1 and largest at power / decay, with one pair of numbers for A >= 0
    and one for A < 0; c = -A weight (arXiv 2602.10693). w is a product over tokens and is not normalised
    by length: a drift of 0.01 a token over 1,000 tokens already gives weight 0. For old log-probabilities of another
    engine, pass the sampler's as `old_logp`. Aggregation: token_mean.

    Raises:
      ValueError: a power < 0 or a decay <= 0.
    """
    for name, value in (("positive_power", positive_power), ("negative_power", negative_power)):
        require(0 <= value < math.inf, name, value, f"0 <= {name} < inf", "Give the paper's k, such as 2.")
    for name, value in (("positive_decay", positive_decay), ("negative_decay", negative_decay)):
        require(0 < value < math.inf, name, value, f"0 < {name} < inf", "Give the paper's lambda, such as 3.")
    p = prepare(inputs)
    log_weight = jnp.clip(p.log_ratio.sum(axis=1, keepdims=True), math.log(SMALLEST_WEIGHT), MAX_LOG_RATIO)
    log_weight = jax.lax.stop_gradient(jnp.broadcast_to(log_weight, p.logp.shape))
    power = jnp.where(p.negative, negative_power, positive_power)
    decay = jnp.where(p.negative, negative_decay, positive_decay)
    weight = jnp.exp(decay + power * log_weight - decay * jnp.exp(log_weight))
    return terms(-weight * p.advantages * p.logp, p, jnp.exp(log_weight), jnp.zeros_like(p.mask))
