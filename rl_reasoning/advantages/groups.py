"""Sums over the rows of one group, wherever in the batch they are."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rl_reasoning.advantages.estimates import AdvantageInputs, Advantages, valid_rewards, valid_rows
from rl_reasoning.arrays import dense_ids


class Grouped(NamedTuple):
    """Each row's view of its own group; all [N].

    ids: dense ids, 0..N-1. valid: bool, the row counts. rewards: float32, 0 where not valid. size: valid rows in the
    group. mean: of their rewards. constant: bool, no two valid rewards of the group differ.
    """

    ids: jax.Array
    valid: jax.Array
    rewards: jax.Array
    size: jax.Array
    mean: jax.Array
    constant: jax.Array

    @property
    def comparable(self) -> jax.Array:
        """[N] bool: valid, with at least one other valid row to compare with."""
        return self.valid & (self.size >= 2)


def group_sum(values: jax.Array, ids: jax.Array) -> jax.Array:
    """[N, ...] -> [N, ...]: each row gets the sum over its group's rows."""
    return jax.ops.segment_sum(values, ids, num_segments=ids.shape[0])[ids]


def group_max(values: jax.Array, ids: jax.Array) -> jax.Array:
    """[N, ...] -> [N, ...]: each row gets the maximum over its group's rows."""
    return jax.ops.segment_max(values, ids, num_segments=ids.shape[0])[ids]


def is_constant(values: jax.Array, valid: jax.Array, ids: jax.Array) -> jax.Array:
    """[N] bool: the group's valid values are all equal. Compared, not subtracted: a rounded mean would hide it."""
    largest = group_max(jnp.where(valid, values, -jnp.inf), ids)
    smallest = -group_max(jnp.where(valid, -values, -jnp.inf), ids)
    return largest <= smallest


def grouped(inputs: AdvantageInputs) -> Grouped:
    """The statistics that the group-relative estimators share."""
    ids, valid = dense_ids(inputs.groups), valid_rows(inputs)
    rewards = valid_rewards(inputs, valid)
    size = group_sum(valid.astype(rewards.dtype), ids)
    mean = group_sum(rewards, ids) / jnp.maximum(size, 1)
    return Grouped(ids, valid, rewards, size, mean, is_constant(rewards, valid, ids))


def relative(values: jax.Array, g: Grouped) -> Advantages:
    """Advantages [N]: `values`, exactly 0 in constant groups; weight 0 where there is nothing to compare with."""
    return Advantages(jnp.where(g.comparable & ~g.constant, values, 0), g.comparable.astype(values.dtype))
