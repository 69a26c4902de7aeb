"""Clipping that keeps a bounded gradient on the tokens it clips: GPPO and CE-GPPO."""

import math

import jax
import jax.numpy as jnp

from rl_reasoning.losses.policy import require_dual_clip
from rl_reasoning.losses.surrogate import SurrogateInputs, Terms, prepare, require_clip, terms
from rl_reasoning.require import require


def gppo(inputs: SurrogateInputs, *, clip_low: float = 0.2, clip_high: float = 0.28, beta_low: float = 1.0,
         beta_high: float = 1.0, dual_clip: float | None = None) -> Terms:
    """PPO's clip whose clipped tokens keep the gradient of the bound.

    c = -F A with F = beta_low (1 - clip_low) where A < 0 and r < 1 - clip_low, beta_high (1 + clip_high) where A > 0
    and r > 1 + clip_high, else r. With both betas 1 (GPPO, arXiv 2508.07629) the value is that of
    `clipped` and c is continuous in r; CE-GPPO (2509.20712, equation 8) recommends 0.5 to 0.75 for beta_low and 1 for
    beta_high; 0 gives the gradient of `clipped`. With a beta other than 1 the value of a clipped token is scaled too,
    as in the paper. `dual_clip` drops the gradient again where A < 0 and r > dual_clip; the released GPPO runs set 10.

    Aggregation: token_mean.

    Raises:
      ValueError: clip_low outside [0, 1), clip_high < 0, a beta < 0, or dual_clip <= 1.
    """
    require_clip(clip_low, clip_high)
    require_dual_clip(dual_clip)
    for name, beta in (("beta_low", beta_low), ("beta_high", beta_high)):
        require(0 <= beta < math.inf, name, beta, f"0 <= {name} < inf", "Give the share of the gradient to keep.")
    p = prepare(inputs)
    # Written with cases: the published sg(bound / r) * r is NaN where r underflows to 0.
    one = jnp.exp(p.logp - jax.lax.stop_gradient(p.logp))
    ratio = jnp.exp(p.log_ratio)
    low = p.negative & (ratio < 1 - clip_low)
    high = p.positive & (ratio > 1 + clip_high)
    far = p.negative & (ratio > (math.inf if dual_clip is None else dual_clip))
    weight = jnp.where(low, beta_low * (1 - clip_low) * one, jnp.where(high, beta_high * (1 + clip_high) * one, ratio))
    weight = jnp.where(far, 0.0 if dual_clip is None else dual_clip, weight)
    return terms(-weight * p.advantages, p, ratio, low | high | far)
