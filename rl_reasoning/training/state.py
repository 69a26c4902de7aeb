"""What an update changes: parameters, optimizer state, and how many updates there were."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rl_reasoning.models import value_head
from rl_reasoning.models.decoder import DecoderConfig, Parameters


class TrainState(NamedTuple):
    """parameters: {"policy": decoder}; with a critic its head {"value": ...}, and {"critic": decoder} if it has a trunk
    of its own. updates: scalar int32.
    """

    parameters: dict[str, Parameters]
    optimizer: Any
    updates: jax.Array


def start(config: DecoderConfig, policy: Parameters, optimizer: optax.GradientTransformation, *,
          critic: str | None) -> TrainState:
    """The state before the first update. The policy's arrays are copied: updates donate theirs.

    Args: critic: None, "trunk" or "separate" (`losses.parts.Critic.model`).
    """
    parameters = {"policy": jax.tree.map(jnp.array, policy)}
    if critic:
        parameters["value"] = value_head.initialize(config)
    if critic == "separate":
        parameters["critic"] = jax.tree.map(jnp.array, policy)
    return TrainState(parameters, optimizer.init(parameters), jnp.int32(0))
