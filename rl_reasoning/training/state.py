"""What an update changes: parameters, optimizer state, and how many updates there were."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rl_reasoning.models import value_head
from rl_reasoning.models.decoder import DecoderConfig, Parameters


class TrainState(NamedTuple):
    """parameters: {"policy": decoder} and {"value": critic head} with a critic. updates: scalar int32."""

    parameters: dict[str, Parameters]
    optimizer: Any
    updates: jax.Array


def start(config: DecoderConfig, policy: Parameters, optimizer: optax.GradientTransformation, *,
          critic: bool) -> TrainState:
    """The state before the first update. The policy's arrays are copied: updates donate theirs."""
    parameters = {"policy": jax.tree.map(jnp.array, policy)}
    if critic:
        parameters["value"] = value_head.initialize(config)
    return TrainState(parameters, optimizer.init(parameters), jnp.int32(0))
