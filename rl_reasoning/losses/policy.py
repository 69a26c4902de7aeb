"""Policy-gradient surrogates: PPO's clip, and those that weigh log-probabilities or ratios without it.

c below is the derivative of the loss of one token with respect to its own log-probability, at denominator 1;
r = exp(logp - old_logp).
"""

import math

import jax
import jax.numpy as jnp

from rl_reasoning.losses.surrogate import Prepared, SurrogateInputs, Terms, prepare, require_clip, sequence_mean, terms
from rl_reasoning.require import require, require_choice

LEVELS = ("token", "sequence")


def require_dual_clip(dual_clip: float | None) -> None:
    """Raises ValueError unless dual_clip is None or above 1."""
    require(dual_clip is None or dual_clip > 1, "dual_clip", dual_clip, "None, or dual_clip > 1",
            "Give the largest ratio that a negative advantage may act with, such as 3 or 10.")


def log_ratio_at(prepared: Prepared, level: str) -> jax.Array:
    """[N, T] log-ratios: each token's own, or the mean over its sequence (GSPO, arXiv 2507.18071, equation 7).

    Raises:
      ValueError: the level is neither "token" nor "sequence".
    """
    require_choice("level", level, LEVELS)
    if level == "token":
        return prepared.log_ratio
    return jnp.broadcast_to(sequence_mean(prepared.log_ratio, prepared.mask), prepared.log_ratio.shape)


def clipped(inputs: SurrogateInputs, *, clip_low: float = 0.2, clip_high: float = 0.2,
            dual_clip: float | None = None, level: str = "token") -> Terms:
    """PPO's clipped surrogate: -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A).

    c = -r A, and 0 where A > 0 and r > 1 + clip_high, or A < 0 and r < 1 - clip_low. A ratio exactly at a bound keeps
    its gradient. With `dual_clip`, a token with A < 0 and r > dual_clip is worth -dual_clip * A, and c = 0 there; for
    dual_clip > 1 + clip_high this is also the two-sided clip named delta in arXiv 2505.07291.

    Aggregation: token_mean for PPO (arXiv 1707.06347, equation 7) and DAPO (2503.14476: clip_high=0.28);
    sequence_mean_token_mean for GRPO (2402.03300); sequence_sum_token_norm for Dr. GRPO (2503.20783). RAFT++
    (2505.02391) is this with the advantages of `rl_reasoning.advantages.raft`. Dual clip: arXiv 1912.09729.

    Raises:
      ValueError: clip_low outside [0, 1), clip_high < 0, dual_clip <= 1, or unknown level.
    """
    require_clip(clip_low, clip_high)
    require_dual_clip(dual_clip)
    p = prepare(inputs)
    ratio = jnp.exp(log_ratio_at(p, level))
    too_high = p.positive & (ratio > 1 + clip_high)
    too_low = p.negative & (ratio < 1 - clip_low)
    far = p.negative & (ratio > (math.inf if dual_clip is None else dual_clip))
    bounded = jnp.where(too_high, 1 + clip_high, jnp.where(too_low, 1 - clip_low, ratio))
    bounded = jnp.where(far, 0.0 if dual_clip is None else dual_clip, bounded)
    return terms(-bounded * p.advantages, p, ratio, too_high | too_low | far)


def reinforce(inputs: SurrogateInputs) -> Terms:
    """-A logp, without a ratio: c = -A. Drift away from the old policy is not corrected.

    Aggregation: token_mean for GPG (arXiv 2504.02546); sequence_mean_token_sum for RLOO (2402.14740), whose score is
    that of the whole answer, where verl averages over tokens. RAFT (2304.06767) is this with the advantages of
    `rl_reasoning.advantages.raft`.
    """
    p = prepare(inputs)
    return terms(-p.advantages * p.logp, p, jnp.exp(p.log_ratio), jnp.zeros_like(p.mask))


def cispo(inputs: SurrogateInputs, *, cap: float = 5.0, floor: float = 0.0) -> Terms:
    """REINFORCE weighted by a clipped ratio: -sg(clip(r, floor, cap)) A logp, so that no token loses its gradient.

    c = -clip(r, floor, cap) A (arXiv 2506.13585, equation 4). Both bounds are ratios, not distances from 1: the
    paper's 1 + epsilon_high is `cap`, and it leaves the lower side open. Aggregation: token_mean.

    Raises:
      ValueError: cap < 1, or floor outside [0, 1].
    """
    require(cap >= 1, "cap", cap, "cap >= 1", "Give the largest ratio itself, such as 5, not a distance from 1.")
    require(0 <= floor <= 1, "floor", floor, "0 <= floor <= 1", "Give the smallest ratio itself; 0 has no bound.")
    p = prepare(inputs)
    ratio = jnp.exp(p.log_ratio)
    weight = jax.lax.stop_gradient(jnp.clip(ratio, floor, cap))
    return terms(-weight * p.advantages * p.logp, p, ratio, (ratio < floor) | (ratio > cap))


def sapo(inputs: SurrogateInputs, *, temperature_positive: float = 1.0, temperature_negative: float = 1.05,
         level: str = "token") -> Terms:
    """A smooth gate in place of the clip: -A (4 / tau) sigmoid(tau (r - 1)), tau by the sign of A.

    c = -A r sech^2(tau (r - 1) / 2), which is -A at r = 1 and fades on both sides for both signs (arXiv 2511.20347).
    Aggregation: sequence_mean_token_mean.

    Raises:
      ValueError: a temperature <= 0, or unknown level.
    """
    for name, value in (("temperature_positive", temperature_positive), ("temperature_negative", temperature_negative)):
        require(0 < value < math.inf, name, value, f"0 < {name} < inf", "Give the sharpness of the gate, such as 1.")
    p = prepare(inputs)
    ratio = jnp.exp(log_ratio_at(p, level))
    temperature = jnp.where(p.positive, temperature_positive, temperature_negative)
    gate = 4 / temperature * jax.nn.sigmoid(temperature * (ratio - 1))
    return terms(-p.advantages * gate, p, ratio, jnp.zeros_like(p.mask))
