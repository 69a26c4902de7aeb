"""Advantages that differ from token to token: returns, GAE and whitening over valid tokens alone."""

import jax
import jax.numpy as jnp

from rl_reasoning.advantages.estimates import AdvantageInputs, Advantages, require_field, valid_rewards, valid_rows
from rl_reasoning.advantages.groups import grouped
from rl_reasoning.require import require


def require_unit(name: str, value: float) -> None:
    """Raises ValueError unless 0 <= value <= 1."""
    require(0 <= value <= 1, name, value, f"0 <= {name} <= 1", "Give 1 for no discount.")


def token_mask(inputs: AdvantageInputs, valid: jax.Array) -> jax.Array:
    """[N, T] bool: the answer's tokens in rows that count."""
    return jnp.asarray(inputs.mask, bool) & valid[:, None]


def rewards_per_token(inputs: AdvantageInputs, rewards: jax.Array, mask: jax.Array) -> jax.Array:
    """[N] rewards on each row's last valid token, plus `token_rewards` when given -> [N, T], 0 where masked."""
    position = jnp.cumsum(mask, axis=1)
    last = mask & (position == position[:, -1:])
    placed = jnp.where(last, rewards[:, None], 0)
    if inputs.token_rewards is None:
        return placed
    return placed + jnp.where(mask, inputs.token_rewards, 0)


def discounted_sum(deltas: jax.Array, mask: jax.Array, decay: float) -> jax.Array:
    """[N, T]: x_t = delta_t + decay * x at the next valid token; masked tokens are stepped over and get 0."""

    def step(following: jax.Array, column: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        delta, valid = column
        total = jnp.where(valid, delta + decay * following, following)
        return total, jnp.where(valid, total, 0)

    _, columns = jax.lax.scan(step, jnp.zeros_like(deltas[:, 0]), (deltas.T, mask.T), reverse=True)
    return columns.T


def next_valid(values: jax.Array, mask: jax.Array) -> jax.Array:
    """[N, T]: the value at the next valid token, 0 after the last."""

    def step(following: jax.Array, column: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        value, valid = column
        return jnp.where(valid, value, following), following

    _, columns = jax.lax.scan(step, jnp.zeros_like(values[:, 0]), (values.T, mask.T), reverse=True)
    return columns.T


def whiten(values: jax.Array, mask: jax.Array, *, ddof: int = 1, epsilon: float = 1e-8) -> jax.Array:
    """(x - mean) / sqrt(var + epsilon) over all unmasked tokens of the batch; [N, T] -> [N, T], 0 where masked.

    Exactly 0 when all unmasked values are equal, a single one included.
    """
    count = jnp.maximum(mask.sum(), 1)
    centred = jnp.where(mask, values - jnp.where(mask, values, 0).sum() / count, 0)
    variance = jnp.square(centred).sum() / jnp.maximum(count - ddof, 1)
    constant = jnp.where(mask, values, -jnp.inf).max() <= jnp.where(mask, values, jnp.inf).min()
    return jnp.where(constant, 0, centred * jax.lax.rsqrt(variance + epsilon))


def gae(inputs: AdvantageInputs, *, discount: float = 1.0, gae_lambda: float = 0.95,
        whitened: bool = True) -> Advantages:
    """Generalised advantage estimation (arXiv 1506.02438, equation 16), the recursion running over valid tokens only.

    delta_t = r_t + discount * V_next - V_t, A_t = delta_t + discount * gae_lambda * A_next, with V and A 0 past the
    end; returns = A + V, before whitening. The reward stands on the last valid token; a truncated answer is not
    bootstrapped.

    Args:
      inputs: needs rewards, lengths, mask and values; token_rewards are added when given.
      discount: per token.
      gae_lambda: 1 is the return minus the value, 0 the one-step error.
      whitened: mean 0 and variance 1 over the batch's valid tokens.

    Returns:
      values [N, T], weights [N] and returns [N, T].

    Raises:
      ValueError: discount or gae_lambda outside [0, 1], or no critic values.
    """
    require_unit("discount", discount)
    require_unit("gae_lambda", gae_lambda)
    critic = require_field("values", inputs.values, "gae")
    valid = valid_rows(inputs)
    mask = token_mask(inputs, valid)
    critic = jnp.where(mask, critic, 0)
    rewards = rewards_per_token(inputs, valid_rewards(inputs, valid), mask)
    deltas = rewards + discount * next_valid(critic, mask) - critic
    advantages = discounted_sum(deltas, mask, discount * gae_lambda)
    returns = jnp.where(mask, advantages + critic, 0)
    values = whiten(advantages, mask) if whitened else advantages
    return Advantages(values, valid.astype(values.dtype), returns)


def reinforce_plus_plus(inputs: AdvantageInputs, *, discount: float = 1.0) -> Advantages:
    """REINFORCE++: each token's discounted return, whitened over all valid tokens of the batch (arXiv 2501.03262).

    Args:
      inputs: needs rewards, lengths and mask; token_rewards, such as -beta * KL, are added when given.
      discount: per token.

    Returns:
      values [N, T], weights [N].

    Raises:
      ValueError: discount outside [0, 1].
    """
    require_unit("discount", discount)
    valid = valid_rows(inputs)
    mask = token_mask(inputs, valid)
    returns = discounted_sum(rewards_per_token(inputs, valid_rewards(inputs, valid), mask), mask, discount)
    return Advantages(whiten(returns, mask), valid.astype(returns.dtype))


def reinforce_plus_plus_baseline(inputs: AdvantageInputs, *, ddof: int = 1) -> Advantages:
    """REINFORCE++ with the group's mean reward as a baseline, then whitened over all valid tokens (arXiv 2501.03262).

    The mean that whitening subtracts is weighted by length, so a group whose rewards are equal does not get exactly 0
    next to others, as published; a batch of such groups does.

    Args:
      inputs: needs rewards, groups, lengths and mask; token_rewards are summed to the end when given.
      ddof: 1 as in verl, 0 as in OpenRLHF.

    Returns:
      values [N, T], weights [N]: 0 for rows whose group has fewer than two valid rewards.

    Raises:
      ValueError: ddof other than 0 and 1.
    """
    require(ddof in (0, 1), "ddof", ddof, "0, 1", "Give 1 for the sample deviation.")
    g = grouped(inputs)
    mask = token_mask(inputs, g.comparable)
    centred = jnp.where(g.comparable & ~g.constant, g.rewards - g.mean, 0)
    returns = discounted_sum(rewards_per_token(inputs, centred, mask), mask, 1.0)
    return Advantages(whiten(returns, mask, ddof=ddof), g.comparable.astype(returns.dtype))
