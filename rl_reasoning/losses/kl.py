"""Estimators of KL(trained || reference) from the sampled token alone, and the penalty built from them.

u = logp - ref_logp. Which gradient an estimator has matters more than its value (c is the derivative with respect
to logp): k1 has c = 1, whose expectation is 0, so as a loss it pulls nowhere; k2 has c = u, the unbiased gradient of
the reverse KL on-policy; k3 has c = 1 - exp(-u). Source: Schulman, "Approximating KL divergence" (2020).
"""

import jax
import jax.numpy as jnp

from rl_reasoning.losses.surrogate import (
    SurrogateInputs,
    Terms,
    check_shapes,
    clamp_log_ratio,
    clamp_logp,
    prepare,
    terms,
)
from rl_reasoning.require import require, require_choice


def k1(log_ratio: jax.Array) -> jax.Array:
    """u: unbiased and signed; for use inside a reward, not as a loss."""
    return log_ratio


def absolute(log_ratio: jax.Array) -> jax.Array:
    """|u|, with gradient 0 at 0 (that of jnp.abs is 1 there)."""
    return log_ratio * jnp.sign(jax.lax.stop_gradient(log_ratio))


def k2(log_ratio: jax.Array) -> jax.Array:
    """u^2 / 2: biased, low variance."""
    return 0.5 * jnp.square(log_ratio)


def k3(log_ratio: jax.Array) -> jax.Array:
    """exp(-u) + u - 1: unbiased, never negative, 0 at u = 0."""
    return jnp.expm1(-log_ratio) + log_ratio


def k3_straight_through(log_ratio: jax.Array) -> jax.Array:
    """The value of k3 with the gradient of k2."""
    return jax.lax.stop_gradient(k3(log_ratio) - k2(log_ratio)) + k2(log_ratio)


ESTIMATORS = {"k1": k1, "absolute": absolute, "k2": k2, "k3": k3, "k3_straight_through": k3_straight_through}


def kl_penalty(inputs: SurrogateInputs, *, estimator: str = "k3", corrected: bool = False) -> Terms:
    """The KL estimate of each token; scale it by a coefficient and add it to a surrogate of the same aggregation.

    With `corrected`, each estimate is multiplied by the differentiable ratio to the old policy, clamped like every
    ratio: for k3 then c = r u, the unbiased gradient off-policy (arXiv 2512.02556).

    `measures` adds `kl_reference_sum`, the values, to what every surrogate gives.

    Raises:
      ValueError: unknown estimator, no `ref_logp`, or an array that is not [N, T] like the mask.
    """
    require_choice("estimator", estimator, tuple(ESTIMATORS))
    if inputs.ref_logp is None:
        raise ValueError("ref_logp is None; allowed: [N, T] log-probabilities. Score the answers under the reference.")
    check_shapes(inputs.mask, ref_logp=inputs.ref_logp)
    p = prepare(inputs)
    reference = jax.lax.stop_gradient(clamp_logp(inputs.ref_logp, p.mask))
    ratio = jnp.exp(p.log_ratio)
    values = ESTIMATORS[estimator](clamp_log_ratio(p.logp - reference)) * (ratio if corrected else 1.0)
    result = terms(values, p, ratio, jnp.zeros_like(p.mask))
    return result._replace(measures={**result.measures, "kl_reference_sum": result.values})


def adaptive_kl_coefficient(coefficient: float, kl: float, *, target: float, steps: int, horizon: int) -> float:
    """The next coefficient of a KL penalty that steers towards a target KL (arXiv 1909.08593).

    coefficient * (1 + clip(kl / target - 1, -0.2, 0.2) * steps / horizon); kl and target in nats, steps since the last
    call and horizon in the same unit.

    Raises:
      ValueError: target <= 0, horizon < 1 or steps < 0.
    """
    require(target > 0, "target", target, "target > 0", "Give a KL in nats.")
    require(horizon >= 1, "horizon", horizon, "horizon >= 1", "Give the time scale of the control.")
    require(steps >= 0, "steps", steps, "steps >= 0", "Count the steps since the last call.")
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coefficient * (1 + error * steps / horizon)
