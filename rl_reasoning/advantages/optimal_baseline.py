"""A baseline for each token that minimises the variance of the gradient."""

import jax
import jax.numpy as jnp

from rl_reasoning.advantages.estimates import AdvantageInputs, Advantages, require_field
from rl_reasoning.advantages.groups import Grouped, group_max, group_sum, grouped
from rl_reasoning.advantages.per_token import discounted_sum, rewards_per_token, token_mask


def _score_energy(inputs: AdvantageInputs, mask: jax.Array) -> jax.Array:
    """[N, T]: the squared norm of the gradient of log p with respect to the logits, summed up to each token."""
    old_logp = require_field("old_logp", inputs.old_logp, "otb")
    sum_pi_squared = require_field("sum_pi_squared", inputs.sum_pi_squared, "otb")
    energy = jnp.where(mask, 1 - 2 * jnp.exp(jnp.where(mask, old_logp, 0)) + sum_pi_squared, 0)
    return jnp.where(mask, jnp.cumsum(jnp.maximum(energy, 0), axis=1), 0)


def _minus_baseline(returns: jax.Array, energy: jax.Array, alive: jax.Array, g: Grouped,
                    zero_tail: bool) -> jax.Array:
    """Columns are steps counted over valid tokens: each against the same step of the group's other answers."""
    number = group_sum(alive.astype(returns.dtype), g.ids)
    total = group_sum(energy, g.ids)
    weighted = group_sum(returns * energy, g.ids) / jnp.where(total > 0, total, 1)
    baseline = jnp.where(total > 0, weighted, group_sum(returns, g.ids) / jnp.maximum(number, 1))
    equal = group_max(jnp.where(alive, returns, -jnp.inf), g.ids) <= -group_max(jnp.where(alive, -returns, -jnp.inf),
                                                                                g.ids)
    values = jnp.where(equal, 0, returns - baseline)
    if zero_tail:
        values = jnp.where((number == 1) & ~g.constant[:, None], returns, values)
    return jnp.where(alive, values, 0)


def otb(inputs: AdvantageInputs, *, zero_tail: bool = False) -> Advantages:
    """The optimal token baseline: the return of each token minus b_t = sum_i G_it W_it / sum_i W_it over its group.

    G is the undiscounted return; W_it = sum_{j <= t} (1 - 2 pi_j + sum_v pi_v^2), the accumulated squared norm of the
    score. Steps are counted over valid tokens, so that holes of tool output do not shift them. The form is that of the
    verl library's optimal_token_baseline.

    Args:
      inputs: needs rewards, groups, lengths, mask, old_logp and sum_pi_squared; token_rewards are added when given.
      zero_tail: no baseline where a single answer of the group is still going on, so that its tail keeps its return;
        else the tail gets 0.

    Returns:
      values [N, T], weights [N]: 0 for rows whose group has fewer than two valid rewards.

    Raises:
      ValueError: no old_logp or sum_pi_squared.
    """
    g = grouped(inputs)
    mask = token_mask(inputs, g.comparable)
    returns = discounted_sum(rewards_per_token(inputs, g.rewards, mask), mask, 1.0)
    energy = _score_energy(inputs, mask)
    order = jnp.argsort(~mask, axis=1, stable=True)
    returns, energy, mask = (jnp.take_along_axis(x, order, axis=1) for x in (returns, energy, mask))
    values = _minus_baseline(returns, energy, mask, g, zero_tail)
    values = jnp.take_along_axis(values, jnp.argsort(order, axis=1), axis=1)
    return Advantages(values, g.comparable.astype(values.dtype))
