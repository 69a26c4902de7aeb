"""The entropy bonus, and the controller of its coefficient."""

import jax
import jax.numpy as jnp

from rl_reasoning.arrays import Array
from rl_reasoning.losses.surrogate import Terms, check_shapes, zero_where_masked
from rl_reasoning.require import require


def entropy_bonus(entropy: jax.Array, mask: Array) -> Terms:
    """Minus the policy's entropy at each token: scale by a positive coefficient and add to a surrogate.

    Args:
      entropy: [N, T] float, nats, differentiable in the policy.
      mask: [N, T] bool; pass `mask & keep` for a bonus on kept tokens alone.

    Returns:
      Terms whose sums are `tokens` and `entropy_sum`.

    Raises:
      ValueError: entropy is not [N, T] like the mask.
    """
    check_shapes(mask, entropy=entropy)
    mask = jnp.asarray(mask, bool)
    entropy = zero_where_masked(entropy, mask)
    weights = mask.astype(entropy.dtype)
    return Terms(-entropy, weights, {"tokens": weights, "entropy_sum": entropy})


def adaptive_entropy_coefficient(coefficient: float, entropy: float, *, target: float = 0.2, step: float = 0.005,
                                 low: float = 0.0, high: float = 1.0) -> tuple[float, bool]:
    """The coefficient of the entropy bonus for the next window, and whether the bonus applies in it at all.

    The coefficient rises by `step` while the window's mean entropy (nats) is at most the target, else it falls; the
    bonus applies after windows at or below the target (arXiv 2505.22312).

    Raises:
      ValueError: step < 0, or not 0 <= low <= high.
    """
    require(step >= 0, "step", step, "step >= 0", "Give the change of the coefficient per window.")
    require(0 <= low <= high, "(low, high)", (low, high), "0 <= low <= high", "Give the coefficient's range.")
    short = entropy <= target
    return min(max(coefficient + (step if short else -step), low), high), short
