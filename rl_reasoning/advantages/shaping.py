"""Rewards for the length of an answer."""

import jax
import jax.numpy as jnp

from rl_reasoning.advantages.estimates import require


def overlong_penalty(lengths: jax.Array, *, max_length: int, buffer: int, factor: float = 1.0) -> jax.Array:
    """DAPO's soft penalty for answers close to the limit, to be added to rewards (arXiv 2503.14476, equation 13).

    0 up to max_length - buffer tokens, then linear to -factor at max_length.

    Args:
      lengths: [N] int, tokens.
      max_length: tokens, the longest answer allowed.
      buffer: tokens before the limit in which the penalty grows.
      factor: the penalty at the limit, in the reward's unit.

    Returns:
      [N] float32, <= 0.

    Raises:
      ValueError: not 1 <= buffer <= max_length, or factor < 0.
    """
    require(1 <= buffer <= max_length, "buffer", buffer, f"1 <= buffer <= max_length ({max_length})",
            "Give a number of tokens.")
    require(factor >= 0, "factor", factor, "factor >= 0", "Give the size of the penalty; its sign is built in.")
    excess = (jnp.asarray(lengths) - (max_length - buffer)).astype(jnp.float32)
    return jnp.minimum(-excess / buffer * factor, 0)
