"""Log-probability and entropy of chosen tokens, without ever holding the logits of a whole batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rl_reasoning.models.decoder import DecoderConfig, Parameters, logits


def log_probabilities(raw: jax.Array, temperature: float) -> jax.Array:
    """log softmax(raw / temperature) in float32; sampler and trainer both call it, so they cannot differ.

    Args: raw [..., V]. At temperature 0 the answer is that of temperature 1.
    """
    return jax.nn.log_softmax(raw.astype(jnp.float32) / (temperature or 1.0), axis=-1)


class TokenStatistics(NamedTuple):
    """What a policy says of chosen tokens; float32, all of one shape.

    logp: log-probability of the token. entropy: of the distribution it comes from, in nats. collision: the sum over
    the vocabulary of squared probabilities, not differentiated.
    """

    logp: jax.Array
    entropy: jax.Array
    collision: jax.Array


def token_logprobs(config: DecoderConfig, parameters: Parameters, hidden: jax.Array, ids: jax.Array, *,
                   temperature: float = 1.0, budget: int = 2**24) -> TokenStatistics:
    """Log-probability of each id, and what else is known of the distribution it comes from.

    Arguments as in `over_vocabulary`. Returns: statistics [...].
    """
    def statistics(logp: jax.Array, targets: jax.Array) -> TokenStatistics:
        chosen = jnp.take_along_axis(logp, targets[:, None], axis=-1)[:, 0]
        probabilities = jnp.exp(logp)
        collision = jnp.sum(jnp.square(jax.lax.stop_gradient(probabilities)), axis=-1)
        return TokenStatistics(chosen, -jnp.sum(probabilities * logp, axis=-1), collision)

    return over_vocabulary(statistics, config, parameters, hidden, ids, temperature=temperature, budget=budget)


def over_vocabulary(function: Callable[[jax.Array, jax.Array], Any], config: DecoderConfig, parameters: Parameters,
                    hidden: jax.Array, ids: jax.Array, *, temperature: float = 1.0, budget: int = 2**24) -> Any:
    """A function of each position's whole distribution, without ever holding those of the batch.

    The logits exist for budget / V positions at a time, forward and backward, whatever the batch.

    Args:
      function: (log-probabilities [S, V], ids [S]) -> a pytree of arrays [S].
      hidden: [..., D] hidden states that predict `ids` [...].
      budget: how many logits may exist at once; 2**24 float32 are 64 MiB.

    Returns:
      the function's pytree, of arrays [...].
    """
    def one_chunk(arguments: tuple[jax.Array, jax.Array]) -> Any:
        rows, targets = arguments
        return function(log_probabilities(logits(config, parameters, rows), temperature), targets)

    shape, count = ids.shape, ids.size
    size = min(max(1, budget // config.vocabulary), count)
    padding = -count % size
    rows = jnp.pad(hidden.reshape(count, -1), ((0, padding), (0, 0))).reshape(-1, size, hidden.shape[-1])
    targets = jnp.pad(ids.reshape(count), (0, padding)).reshape(-1, size)
    # One chunk is small enough to keep for the backward pass; several are computed again.
    found = jax.lax.map(one_chunk if len(rows) == 1 else jax.checkpoint(one_chunk), (rows, targets))
    return jax.tree.map(lambda x: x.reshape(-1)[:count].reshape(shape), found)
