"""Right answers up, wrong answers down: no baseline, no scale (arXiv 2506.01347).

Rewards are 0 and 1, or -1 and 1; `check_rewards` refuses others on the host. Inside compiled code a reward above 0.5
is right. Loss: `clipped` with aggregation token_mean.
"""

import math

import jax.numpy as jnp

from rl_reasoning.advantages.estimates import AdvantageInputs, Advantages, dropping, valid_rows
from rl_reasoning.require import require

RIGHT_ABOVE = 0.5


def positive_only(inputs: AdvantageInputs, *, denominator: str = "kept") -> Advantages:
    """PSR: +1 on right answers, the others dropped.

    Args:
      inputs: needs rewards and lengths.
      denominator: "kept" averages over right answers alone (the paper's code); "all" counts the dropped rows in the
        denominator, so that the step shrinks as right answers get rare (the paper's expectation).

    Returns:
      values [N] in {0, 1}, weights [N].

    Raises:
      ValueError: unknown denominator.
    """
    right = inputs.rewards > RIGHT_ABOVE
    return dropping(jnp.ones(right.shape, jnp.float32), valid_rows(inputs), right, denominator)


def negative_only(inputs: AdvantageInputs, *, denominator: str = "kept") -> Advantages:
    """NSR: -1 on wrong answers, the others dropped.

    `denominator`, shapes and errors as in `positive_only`; values [N] in {-1, 0}.
    """
    right = inputs.rewards > RIGHT_ABOVE
    return dropping(-jnp.ones(right.shape, jnp.float32), valid_rows(inputs), ~right, denominator)


def signed(inputs: AdvantageInputs, *, positive_weight: float) -> Advantages:
    """W-REINFORCE: +positive_weight on right answers, -1 on wrong ones; nothing is dropped.

    positive_weight=1 is REINFORCE with rewards +-1; the paper recommends 0.1. It has no default because the paper's
    released scripts leave it at 1 unless edited.

    Returns:
      values [N], weights [N].

    Raises:
      ValueError: positive_weight is negative or infinite.
    """
    require(0 <= positive_weight < math.inf, "positive_weight", positive_weight, "0 <= positive_weight < inf",
            "Give 1 for REINFORCE, 0.1 for W-REINFORCE.")
    right = inputs.rewards > RIGHT_ABOVE
    valid = valid_rows(inputs)
    return dropping(jnp.where(right, jnp.float32(positive_weight), jnp.float32(-1)), valid, valid, "all")
