"""The critic's regression loss."""

import jax
import jax.numpy as jnp

from rl_reasoning.arrays import Array
from rl_reasoning.losses.surrogate import Terms, check_shapes, zero_where_masked
from rl_reasoning.require import require


def clipped_value(values: Array, old_values: Array, returns: Array, mask: Array, *,
                  clip: float | None = 0.5) -> Terms:
    """PPO's value loss: max((v - R)^2, (clip(v, old - clip, old + clip) - R)^2) / 2.

    The gradient is 0 where the clipped branch is the larger one, v being out of range. `clip=None` is plain
    regression. Aggregation: token_mean.

    Args:
      values: [N, T] float, of the critic that is trained; the only differentiated argument.
      old_values: [N, T] float, at the start of the step.
      returns: [N, T] float, the regression target.
      mask: [N, T] bool.
      clip: same unit as the values, > 0.

    Returns:
      Terms whose sums are `tokens`, `clipped`, `error_square_sum` (v - R, squared), `return_sum` and
      `return_square_sum`, enough for the explained variance.

    Raises:
      ValueError: clip <= 0, or an array that is not [N, T] like the mask.
    """
    require(clip is None or clip > 0, "clip", clip, "None, or clip > 0", "Give the largest change of a value.")
    check_shapes(mask, values=values, old_values=old_values, returns=returns)
    mask = jnp.asarray(mask, bool)
    values = zero_where_masked(values, mask)
    old_values, returns = jax.lax.stop_gradient(
        (zero_where_masked(old_values, mask), zero_where_masked(returns, mask)))
    error = jnp.square(values - returns)
    moved = values - old_values
    limit = jnp.inf if clip is None else clip
    bounded = jnp.square(old_values + jnp.where(moved > limit, limit, -limit) - returns)
    cut = (jnp.abs(moved) > limit) & (bounded > error)
    loss = 0.5 * jnp.where(cut, bounded, error)
    measures = {"tokens": mask, "clipped": cut, "error_square_sum": error, "return_sum": returns,
                "return_square_sum": jnp.square(returns)}
    return Terms(jnp.where(mask, loss, 0), mask.astype(loss.dtype), measures)
