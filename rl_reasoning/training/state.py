"""What an update changes: parameters, optimizer state, and how many updates there were."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rl_reasoning import optim
from rl_reasoning.models import lora, value_head
from rl_reasoning.models.decoder import DecoderConfig, Parameters
from rl_reasoning.parallel import Layout


class TrainState(NamedTuple):
    """What is trained, and beside it what is not.

    parameters: {"policy": trained part of the decoder}; with a critic its head {"value": ...}, and {"critic": the same
    part} if it has a trunk of its own.
    updates: scalar int32.
    frozen: the decoder's other weights, {} without adapters (`models.lora.split`).
    """

    parameters: dict[str, Parameters]
    optimizer: Any
    updates: jax.Array
    frozen: Parameters

    @property
    def whole(self) -> dict[str, Parameters]:
        """The parameters with whole decoders."""
        return whole(self.parameters, self.frozen)

    @property
    def averaged(self) -> "TrainState":
        """The state with the averages of its parameters in their place, where the optimizer keeps them."""
        average = optim.average_of(self.optimizer)
        if average is None:
            return self
        return self._replace(parameters=jax.tree.map(lambda mean, own: mean.astype(own.dtype), average,
                                                     self.parameters))


def whole(parameters: dict[str, Parameters], frozen: Parameters) -> dict[str, Parameters]:
    """The parameters with the decoders' frozen weights put back; no array is copied."""
    return {name: lora.join(part, frozen) if name in ("policy", "critic") else part
            for name, part in parameters.items()}


def start(config: DecoderConfig, policy: Parameters, optimizer: optax.GradientTransformation, *, critic: str | None,
          layout: Layout | None = None) -> TrainState:
    """The state before the first update. What is trained is copied, since updates donate theirs; the rest is not.

    Args:
      critic: None, "trunk" or "separate" (`losses.parts.Critic.model`).
      layout: where the state lies; None leaves it where the policy is.
    """
    trained, frozen = lora.split(config, policy)
    parameters = {"policy": jax.tree.map(jnp.array, trained)}
    if critic:
        parameters["value"] = value_head.initialize(config)
    if critic == "separate":
        parameters["critic"] = jax.tree.map(jnp.array, trained)
    if layout is None:
        return TrainState(parameters, optimizer.init(parameters), jnp.int32(0), frozen)
    parameters = layout.place(parameters)
    return layout.place(TrainState(parameters, optimizer.init(parameters), jnp.int32(0), frozen))
