"""Log-probability and entropy of chosen tokens, without ever holding the logits of a whole batch."""

import jax
import jax.numpy as jnp

from rl_reasoning.models.decoder import DecoderConfig, Parameters, logits


def log_probabilities(raw: jax.Array, temperature: float) -> jax.Array:
    """log softmax(raw / temperature) in float32; sampler and trainer both call it, so they cannot differ.

    Args: raw [..., V]. At temperature 0 the answer is that of temperature 1.
    """
    return jax.nn.log_softmax(raw.astype(jnp.float32) / (temperature or 1.0), axis=-1)


def token_logprobs(config: DecoderConfig, parameters: Parameters, hidden: jax.Array, ids: jax.Array, *,
                   temperature: float = 1.0, budget: int = 2**24) -> tuple[jax.Array, jax.Array]:
    """Log-probability of each id, and the entropy of the distribution it comes from, in nats.

    The logits exist for budget / V positions at a time, forward and backward, whatever the batch.

    Args:
      hidden: [..., D] hidden states that predict `ids` [...].
      budget: how many logits may exist at once; 2**24 float32 are 64 MiB.

    Returns:
      (log-probabilities [...], entropies [...]), float32.
    """
    def one_chunk(arguments):
        rows, targets = arguments
        logp = log_probabilities(logits(config, parameters, rows), temperature)
        chosen = jnp.take_along_axis(logp, targets[:, None], axis=-1)[:, 0]
        return chosen, -jnp.sum(jnp.exp(logp) * logp, axis=-1)

    shape, count = ids.shape, ids.size
    size = min(max(1, budget // config.vocabulary), count)
    padding = -count % size
    rows = jnp.pad(hidden.reshape(count, -1), ((0, padding), (0, 0))).reshape(-1, size, hidden.shape[-1])
    targets = jnp.pad(ids.reshape(count), (0, padding)).reshape(-1, size)
    # One chunk is small enough to keep for the backward pass; several are computed again.
    chosen, entropy = jax.lax.map(one_chunk if len(rows) == 1 else jax.checkpoint(one_chunk), (rows, targets))
    return chosen.reshape(-1)[:count].reshape(shape), entropy.reshape(-1)[:count].reshape(shape)
