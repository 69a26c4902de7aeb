"""What every advantage estimator reads and returns, and the checks of values before they meet jax.

Shape letters: N sequences, T answer tokens, K reward components. An estimator is
`fn(inputs, *, options) -> Advantages`; options are Python values, checked when the function is called or traced.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rl_reasoning.arrays import Array
from rl_reasoning.require import require, require_choice


class AdvantageInputs(NamedTuple):
    """One sequence a row. A row counts if its reward is finite and its length is at least 1.

    Attributes:
      rewards: [N] float; NaN or infinite where the verifier could not score.
      groups: [N] int, which problem a row answers; any ids, in any order, groups of any sizes.
      lengths: [N] int, tokens of the answer; 0 marks a padding row.
      mask: [N, T] bool, the answer's tokens as sampled, before any token is rejected or filtered.
      values: [N, T] float, the critic's values (`gae`).
      token_rewards: [N, T] float, added to the reward of each token, such as -beta * KL (token-level estimators).
      greedy_rewards: [N] float, reward of the greedy answer to the row's problem (`remax`).
      reward_components: [N, K] float, the parts of a composed reward (`gdpo`).
      old_logp: [N, T] float, log-probabilities of the sampled tokens (`otb`).
      sum_pi_squared: [N, T] float, the sum over the vocabulary of squared probabilities (`otb`).
    """

    rewards: Array
    groups: Array
    lengths: Array
    mask: Array
    values: Array | None = None
    token_rewards: Array | None = None
    greedy_rewards: Array | None = None
    reward_components: Array | None = None
    old_logp: Array | None = None
    sum_pi_squared: Array | None = None


class Advantages(NamedTuple):
    """Finite everywhere.

    Attributes:
      values: [N] or [N, T] float32; 0 for rows that do not count and for masked tokens.
      weights: [N] float32, 1 for rows that count in the loss's numerator and denominator, 0 for the others.
      returns: [N, T] float32, the critic's regression target; `gae` only.
    """

    values: jax.Array
    weights: jax.Array
    returns: jax.Array | None = None


def require_field(name: str, value: Array | None, estimator: str) -> Array:
    """The field, or ValueError when this estimator needs it and it is absent."""
    if value is None:
        raise ValueError(f"{name} is None; allowed: an array. The estimator {estimator} needs it: fill in this field.")
    return value


def valid_rows(inputs: AdvantageInputs) -> jax.Array:
    """[N] bool: the reward is finite and the row is not padding."""
    return jnp.isfinite(inputs.rewards) & (inputs.lengths > 0)


def valid_rewards(inputs: AdvantageInputs, valid: jax.Array) -> jax.Array:
    """[N] float32 rewards, 0 where `valid` is False."""
    return jnp.where(valid, inputs.rewards, 0).astype(jnp.promote_types(jnp.result_type(inputs.rewards), jnp.float32))


def dropping(values: jax.Array, valid: jax.Array, keep: Array, denominator: str) -> Advantages:
    """Advantages [N] of which the rows outside `keep` are dropped: 0, and out of the denominator when it is "kept".

    Raises:
      ValueError: the denominator is neither "kept" nor "all".
    """
    require_choice("denominator", denominator, ("kept", "all"))
    kept = valid & keep
    counted = kept if denominator == "kept" else valid
    return Advantages(jnp.where(kept, values, 0), counted.astype(values.dtype))


def check_rewards(rewards: np.ndarray, *, kind: str = "binary") -> None:
    """Checks concrete rewards on the host, before they enter compiled code. Unscorable ones (NaN, inf) pass.

    Args:
      rewards: any shape.
      kind: "binary" (all in {0, 1} or all in {-1, 1}: the signed estimators) or "unit" (in [0, 1]: `pacs`).

    Raises:
      ValueError: a reward that the kind does not allow, or an unknown kind.
    """
    require_choice("kind", kind, ("binary", "unit"))
    rewards = np.asarray(rewards, np.float64)
    rewards = rewards[np.isfinite(rewards)]
    if kind == "unit":
        bad, allowed = rewards[(rewards < 0) | (rewards > 1)], "0 <= reward <= 1"
        fix = "Rescale the reward."
    else:
        wrong = -1.0 if (rewards == -1).any() else 0.0
        bad, allowed = rewards[(rewards != 1) & (rewards != wrong)], "0 and 1, or -1 and 1, in one batch"
        fix = "Threshold partial rewards first, or choose an estimator for graded rewards such as group_normalized."
    require(bad.size == 0, "a reward", float(bad[0]) if bad.size else None, allowed, fix)
