"""PACS: predict the verifiable reward from log-ratios by supervised learning (arXiv 2509.02522)."""

import math

import jax
import jax.numpy as jnp

from rl_reasoning.arrays import dense_ids
from rl_reasoning.losses.surrogate import SurrogateInputs, Terms, prepare, terms
from rl_reasoning.require import require, require_choice

COUPLINGS = ("rloo", "grpo", "naive")
RIGHT_ABOVE = 0.5
STD_EPSILON = 1e-6


def _group_sum(values: jax.Array, ids: jax.Array) -> jax.Array:
    """[N] -> [N]: each row gets the sum over the rows of its group, ids being dense."""
    return jax.ops.segment_sum(values, ids, num_segments=ids.shape[0])[ids]


def _coupled(score: jax.Array, valid: jax.Array, ids: jax.Array, coupling: str) -> jax.Array:
    """Scores [N], each against its group's; differentiable through the whole group."""
    if coupling == "naive":
        return score
    size = _group_sum(valid.astype(score.dtype), ids)
    centred = jnp.where(valid, score - _group_sum(score, ids) / jnp.maximum(size, 1), 0)
    others = jnp.maximum(size - 1, 1)
    if coupling == "rloo":
        return centred * size / others
    variance = _group_sum(jnp.square(centred), ids) / others
    spread = variance > 0
    std = jnp.where(spread, jnp.sqrt(jnp.where(spread, variance, 1)), 0)
    return centred / (std + STD_EPSILON)


def _class_weights(right: jax.Array, valid: jax.Array, ids: jax.Array) -> jax.Array:
    """[N]: n / (2 n_class) within a group that has both classes, else 1."""
    size = _group_sum(valid.astype(jnp.float32), ids)
    rights = _group_sum((valid & right).astype(jnp.float32), ids)
    own = jnp.where(right, rights, size - rights)
    mixed = (rights > 0) & (rights < size)
    return jnp.where(mixed, size / (2 * jnp.maximum(own, 1)), 1)


def pacs(inputs: SurrogateInputs, *, beta: float = 1.0, coupling: str = "rloo", balanced: bool = True,
         actor_term: bool = False) -> Terms:
    """Cross-entropy between the reward in [0, 1] and sigmoid(psi), psi a row's score against its group's.

    score_i = beta * sum_t (logp - old_logp), and psi by `coupling`: "rloo" n / (n - 1) (score - mean), "grpo"
    (score - mean) / (std + 1e-6), "naive" the score itself; the old policy stands for the reference, as in the
    released code. The gradient flows through every score of the group. With the "grpo" coupling it is multiplied by
    1e6 where all scores of a group are equal, as at the old policy.

    Rewards must be in [0, 1] (`rl_reasoning.advantages.check_rewards`); the advantages are read for their sign in the
    statistics alone. A row without a finite reward is left out; so is, except for "naive", one without a partner.
    Groups must not be split over micro-batches.

    Aggregation: sequence_mean_token_mean, each token carrying its row's loss.

    Args:
      beta: scale of the score, > 0.
      balanced: weigh right and wrong answers equally within each mixed group (right: reward above 0.5).
      actor_term: adds sg(cross-entropy) * sum_t (logp - sg(logp)), the second term of equation 5, which the released
        code leaves out; the value stays.

    Raises:
      ValueError: beta <= 0 or unknown coupling.
    """
    require(0 < beta < math.inf, "beta", beta, "0 < beta < inf", "Give the scale of the log-ratios, such as 1.")
    require_choice("coupling", coupling, COUPLINGS)
    ids = dense_ids(inputs.groups)
    mask = jnp.asarray(inputs.mask, bool)
    valid = jnp.isfinite(inputs.rewards) & mask.any(axis=1)
    if coupling != "naive":
        valid &= _group_sum(valid.astype(jnp.int32), ids) >= 2
    p = prepare(inputs._replace(mask=mask & valid[:, None]))
    rewards = jax.lax.stop_gradient(jnp.where(valid, inputs.rewards, 0))
    psi = _coupled(beta * p.log_ratio.sum(axis=1), valid, ids, coupling)
    loss = jax.nn.softplus(psi) - rewards * psi
    if balanced:
        loss = loss * _class_weights(rewards > RIGHT_ABOVE, valid, ids)
    if actor_term:
        loss = loss + jax.lax.stop_gradient(loss) * (p.logp - jax.lax.stop_gradient(p.logp)).sum(axis=1)
    loss = jnp.broadcast_to(loss[:, None], p.mask.shape)
    return terms(loss, p, jnp.exp(p.log_ratio), jnp.zeros_like(p.mask))
