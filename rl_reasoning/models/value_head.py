"""A critic on the policy's trunk: a linear read-out of the final hidden states."""

import jax
import jax.numpy as jnp

from rl_reasoning.models.decoder import DecoderConfig, Parameters


def initialize(config: DecoderConfig) -> Parameters:
    """Zeros: the first values are 0, so the first advantages are the rewards themselves."""
    return {"kernel": jnp.zeros((config.width,), jnp.float32), "bias": jnp.zeros((), jnp.float32)}


def values(parameters: Parameters, hidden: jax.Array) -> jax.Array:
    """Float32 values [...] of hidden states [..., D]."""
    return jnp.einsum("...d,d->...", hidden.astype(jnp.float32), parameters["kernel"]) + parameters["bias"]
