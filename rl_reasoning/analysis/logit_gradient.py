"""Where a policy gradient moves probability: off the sampled token, to its likely rivals, to the tail.

A token sampled with coefficient c = dL/dlogp moves its logits by -c (onehot - p) times the step. To first order the
probabilities then change by -c p_y (1 - 2 p_y + s) for the sampled token y and c p_v (p_v + p_y - s) for another v,
s being the sum of squared probabilities. The paper on negative reinforcement (arXiv 2506.01347, section 4) reads its
case from this: pushing a wrong token down feeds the others by how likely they were. An alternative less likely
than s - p_y loses too, which that reading leaves out.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rl_reasoning.models.decoder import DecoderConfig, Parameters
from rl_reasoning.models.likelihood import over_vocabulary
from rl_reasoning.training.batch import TrainBatch
from rl_reasoning.training.states import Memory, predicting_states, token_mask

RIGHT_ABOVE = 0.5
TOP = 5


class Movement(NamedTuple):
    """First-order change of probability when a token is pushed down (c = 1), per unit of step; the three add up to 0.

    sampled: of the token itself, at most 0. top: of the likeliest alternatives together. tail: of all others.
    """

    sampled: jax.Array
    top: jax.Array
    tail: jax.Array


def movement(logp: jax.Array, ids: jax.Array, *, top: int = TOP) -> Movement:
    """The movement of each position.

    Args:
      logp: [S, V] log-probabilities. ids: [S], the sampled tokens.
      top: how many of the likeliest tokens other than the sampled one count as rivals.

    Returns:
      arrays [S].
    """
    p = jnp.exp(logp)
    sampled = jnp.arange(p.shape[-1]) == ids[:, None]
    own = jnp.where(sampled, p, 0).sum(axis=-1)
    collision = jnp.square(p).sum(axis=-1)
    change = jnp.where(sampled, 0, p * (p + (own - collision)[:, None]))
    rivals = jax.lax.top_k(jnp.where(sampled, -1, p), min(top, p.shape[-1] - 1))[1]
    to_top = jnp.take_along_axis(change, rivals, axis=-1).sum(axis=-1)
    return Movement(-own * (1 - 2 * own + collision), to_top, change.sum(axis=-1) - to_top)


Analysis = Callable[[Parameters, TrainBatch], dict[str, jax.Array]]


def make_analysis(config: DecoderConfig, temperature: float) -> Analysis:
    """A jitted function of the policy and a batch with micro-batches: means of `Movement` over right and wrong answers.

    The signs are those of the answers' own push: wrong tokens down, right tokens up. A kind of answer of which there
    is none gives 0.
    """
    def part(policy: Parameters, batch: TrainBatch) -> dict[str, jax.Array]:
        hidden = predicting_states(config, policy, batch, Memory())
        found = over_vocabulary(movement, config, policy, hidden, batch.ids, temperature=temperature)
        right = (batch.rewards > RIGHT_ABOVE)[:, None]
        mask = token_mask(batch) & (batch.weights > 0)
        kinds = {"wrong": (mask & ~right, 1.0), "right": (mask & right, -1.0)}
        return {f"{kind}/{name}": jnp.stack([sign * jnp.where(own, value, 0).sum(), own.sum().astype(value.dtype)])
                for kind, (own, sign) in kinds.items() for name, value in found._asdict().items()}

    @jax.jit
    def run(policy: Parameters, batch: TrainBatch) -> dict[str, jax.Array]:
        sums = jax.tree.map(lambda x: x.sum(axis=0), jax.lax.map(lambda each: part(policy, each), batch))
        return {f"analysis/{name}": total / jnp.maximum(count, 1) for name, (total, count) in sums.items()}

    return run
