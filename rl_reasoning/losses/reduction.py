"""From per-token terms to one scalar: the ways of averaging that the field uses.

| here                     | formula                                | other names                                      |
|--------------------------|----------------------------------------|--------------------------------------------------|
| token_mean               | sum of all / number of tokens          | verl token-mean; TRL dapo, cispo (global);       |
|                          |                                        | tunix token-mean                                 |
| sequence_mean_token_mean | mean over rows of each row's mean      | verl seq-mean-token-mean; TRL grpo; tunix        |
|                          |                                        | sequence-mean-token-mean; OpenRLHF sample mode   |
| sequence_mean_token_sum  | mean over rows of each row's sum       | verl seq-mean-token-sum; TRL luspo; tunix        |
|                          |                                        | sequence-mean-token-sum-norm at its default norm |
| sequence_sum_token_norm  | sum of all / (rows * max_length)       | TRL dr_grpo; tunix sequence-mean-token-scale;    |
|                          |                                        | verl seq-mean-token-sum-norm (it does not divide |
|                          |                                        | by the rows: pass `denominator=1`)               |

| part_token_mean          | mean over micro-batches of each one's  | TRL bnpo                                         |
|                          | token mean                             |                                                  |

All but part_token_mean give the same for every split into micro-batches; that one is kept because runs with TRL's
bnpo depend on it. Rows without a weighted token do not count as rows. Denominators add up over micro-batches: sum
those of the parts and pass the total to every part, and the parts' losses and gradients add up to the whole's.
"""

import jax
import jax.numpy as jnp

from rl_reasoning.losses.surrogate import Terms
from rl_reasoning.require import require, require_choice

# Those that give the same loss for every split into micro-batches, and all.
INVARIANT_AGGREGATIONS = ("token_mean", "sequence_mean_token_mean", "sequence_mean_token_sum",
                          "sequence_sum_token_norm")
AGGREGATIONS = (*INVARIANT_AGGREGATIONS, "part_token_mean")


def aggregate(weights: jax.Array, mode: str, *, max_length: int) -> tuple[jax.Array, jax.Array]:
    """How much each token counts, and what to divide by.

    Args:
      weights: [N, T] float >= 0, 0 where masked.
      mode: one of `AGGREGATIONS`; the module's docstring gives the formulas.
      max_length: tokens, the constant of sequence_sum_token_norm (Dr. GRPO, arXiv 2503.20783); the longest answer
        allowed, which is not always T.

    Returns:
      token weights [N, T] and a scalar denominator, additive over micro-batches.

    Raises:
      ValueError: unknown mode, or max_length < 1.
    """
    require_choice("mode", mode, AGGREGATIONS)
    require(max_length >= 1, "max_length", max_length, "max_length >= 1", "Give the longest answer, in tokens.")
    weights = jax.lax.stop_gradient(weights)
    row = weights.sum(axis=1, keepdims=True)
    rows = (row > 0).sum().astype(weights.dtype)
    if mode == "token_mean":
        return weights, weights.sum()
    if mode == "part_token_mean":
        total = weights.sum()
        return weights / jnp.where(total > 0, total, 1), (total > 0).astype(weights.dtype)
    if mode == "sequence_mean_token_mean":
        return weights / jnp.where(row > 0, row, 1), rows
    if mode == "sequence_mean_token_sum":
        return weights, rows
    return weights / max_length, rows


def reduce(terms: Terms, mode: str, *, max_length: int, denominator: jax.Array | float | None = None) -> jax.Array:
    """sum(values * token weights) / max(denominator, 1), a scalar; 0 with zero gradient for an empty batch.

    `denominator` is that of the whole update when this is a part of it; by default it is this batch's own.

    Raises:
      ValueError: see `aggregate`.
    """
    token_weights, own = aggregate(terms.weights, mode, max_length=max_length)
    total = own if denominator is None else denominator
    return (terms.values * token_weights).sum() / jnp.maximum(jax.lax.stop_gradient(total), 1)
