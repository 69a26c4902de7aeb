"""Maximum likelihood of given tokens."""

import jax
import jax.numpy as jnp

from rl_reasoning.losses.surrogate import SurrogateInputs, Terms, check_shapes, clamp_logp


def supervised(logp: jax.Array, mask: jax.Array) -> Terms:
    """-logp of the tokens that the loss mask marks, such as answers without their prompts.

    Args:
      logp: [N, T] float, differentiable.
      mask: [N, T] bool, the loss mask.

    Returns:
      Terms whose sums are `tokens` and `logp_sum`. Aggregation: token_mean.

    Raises:
      ValueError: logp is not [N, T] like the mask.
    """
    check_shapes(mask, logp=logp)
    mask = jnp.asarray(mask, bool)
    logp = clamp_logp(logp, mask)
    weights = mask.astype(logp.dtype)
    return Terms(-logp, weights, {"tokens": weights, "logp_sum": logp})


def supervised_on_right(inputs: SurrogateInputs, *, right: float = 1.0) -> Terms:
    """-logp on rows whose reward is exactly `right`; the other rows have weight 0.

    The joint term of arXiv 2508.07629: reduce it with its own denominator, that of `mask & (rewards == right)` over
    the whole update, scale by 0.1 and add it to the policy's loss. A penalty inside the reward disqualifies a right
    answer. Shapes, sums and errors as in `supervised`. Aggregation: token_mean.
    """
    return supervised(inputs.logp, jnp.asarray(inputs.mask, bool) & (inputs.rewards == right)[:, None])
