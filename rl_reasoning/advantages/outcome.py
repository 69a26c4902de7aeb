"""A sequence on its own: no comparison with its group."""

import jax.numpy as jnp

from rl_reasoning.advantages.estimates import (
    AdvantageInputs,
    Advantages,
    dropping,
    require_field,
    valid_rewards,
    valid_rows,
)


def outcome(inputs: AdvantageInputs) -> Advantages:
    """The reward itself [N]: REINFORCE without a baseline, and what surrogates that read rewards are given."""
    valid = valid_rows(inputs)
    rewards = valid_rewards(inputs, valid)
    return Advantages(rewards, valid.astype(rewards.dtype))


def raft(inputs: AdvantageInputs, *, denominator: str = "all") -> Advantages:
    """max(R, 0) [N]: reward-ranked fine-tuning accepts right answers (arXiv 2304.06767, 2505.02391).

    `denominator`: "all" counts rejected rows in the loss's denominator, as the released code does; "kept" averages
    over accepted rows alone, as the objective is written.

    Raises:
      ValueError: unknown denominator.
    """
    valid = valid_rows(inputs)
    rewards = valid_rewards(inputs, valid)
    return dropping(rewards, valid, rewards > 0, denominator)


def remax(inputs: AdvantageInputs) -> Advantages:
    """R minus the reward of the greedy answer to the same problem [N] (arXiv 2310.10505).

    A row whose greedy answer has no finite reward weighs 0.

    Raises:
      ValueError: no greedy_rewards.
    """
    greedy = require_field("greedy_rewards", inputs.greedy_rewards, "remax")
    valid = valid_rows(inputs) & jnp.isfinite(greedy)
    values = valid_rewards(inputs, valid) - jnp.where(valid, greedy, 0)
    return Advantages(values, valid.astype(values.dtype))
