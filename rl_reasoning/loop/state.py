"""The whole state of the loop as one record, and what of it a checkpoint keeps.

Random keys and the order of problems derive from the seed and the numbers kept here, so that a run which goes on from
a checkpoint does, bit for bit, what it would have done without the stop. The reference policy is the base, which is
kept for itself; its digest is among the fingerprints.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from rl_reasoning.allocation import Estimates, History
from rl_reasoning.models import lora
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.parallel.exchange import put
from rl_reasoning.training.state import TrainState


class Position(Protocol):
    """Where a run is in what it trains on, as a `Stream` knows it; JSON-able."""

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on where `get_state` was called. Raises ValueError when that was of something else."""


@dataclasses.dataclass(frozen=True)
class Copy:
    """What is trained of the policy after a step, in arrays of its own that no update uses up."""

    step: int
    trained: Parameters


@dataclasses.dataclass(frozen=True)
class Lent:
    """The policies that the sampler has, where it does not read the trainer's own arrays.

    Attributes:
      copies: after the latest step and those before it that are still sampled from, the newest first; () without any.
      frozen: the decoder's other weights, on the sampler's devices.
    """

    copies: tuple[Copy, ...] = ()
    frozen: Parameters = dataclasses.field(default_factory=dict)


class LoopState(NamedTuple):
    """All that one step hands to the next.

    train: parameters and optimizer. drawn: batches of problems taken from the stream. kl_coefficient: of the penalty
    in the reward. step: how many are done. streaks: steps in a row, up to this one, that went wrong in one way
    (`loop.watch`). estimates: of the problems, for a plan that reads them. history: answers to be trained on again.
    lent: what the sampler has; the oldest copy answers the next step's problems.
    """

    train: TrainState
    drawn: int
    kl_coefficient: float
    step: int = 0
    streaks: Mapping[str, int] = {}
    estimates: Estimates = Estimates()
    history: History = History()
    lent: Lent = Lent()

    @property
    def sampled_by(self) -> tuple[int, Parameters]:
        """The step after which the policy was what the next answers are drawn from, and the policy."""
        if not self.lent.copies:
            return self.step, self.train.whole["policy"]
        oldest = self.lent.copies[-1]
        return oldest.step, lora.join(oldest.trained, self.lent.frozen)


def arrays(state: LoopState) -> dict[str, Any]:
    """The arrays that a checkpoint keeps. Weights that are not trained are the base's, and are not kept again.

    Of earlier policies those are kept that a run which goes on makes answers with: the ones under way are made again.
    """
    train = state.train
    found = {"parameters": train.parameters, "optimizer": train.optimizer, "updates": train.updates}
    earlier = {str(age): copy.trained for age, copy in enumerate(state.lent.copies) if age}
    return found | ({"earlier": earlier} if earlier else {})


def facts(state: LoopState, stream: Position) -> dict[str, Any]:
    """What a checkpoint keeps beside the arrays, JSON-able; a float's digits are all there."""
    return {"step": state.step, "stream": stream.get_state() | {"next": state.drawn},
            "kl_coefficient": state.kl_coefficient, "streaks": dict(state.streaks),
            "estimates": state.estimates.get_state(), "history": state.history.get_state(),
            "earlier": [copy.step for copy in state.lent.copies[1:]]}


def devices(state: LoopState) -> int:
    """On how many devices the parameters lie."""
    return len(jax.tree.leaves(state.train.parameters)[0].sharding.device_set)


def restored(begun: LoopState, kept: Mapping[str, Any], said: Mapping[str, Any], stream: Position) -> LoopState:
    """The state of a checkpoint, each array on the devices where `begun` has it, however many had it when saved.

    Args: kept: `arrays` of the checkpoint. said: its `facts`; what one written before does not name is empty.
    Raises ValueError when the checkpoint is of another stream of problems.
    """
    stream.set_state(said["stream"])
    placed = jax.tree.map(_place, dict(arrays(begun)), dict(kept))
    earlier, lent = placed.pop("earlier", {}), begun.lent
    if lent.copies:
        newest = jax.tree.map(_place, lent.copies[0].trained, kept["parameters"]["policy"])
        older = [Copy(step, earlier[str(age)]) for age, step in enumerate(said.get("earlier", []), 1)
                 if age < len(lent.copies)]
        lent = dataclasses.replace(lent, copies=(Copy(said["step"], newest), *older))
    return begun._replace(train=begun.train._replace(**placed), drawn=int(said["stream"]["next"]),
                          kl_coefficient=said["kl_coefficient"], step=said["step"],
                          streaks=said.get("streaks", {}), estimates=Estimates.from_state(said.get("estimates", {})),
                          history=History.from_state(said.get("history", {})), lent=lent)


def _place(like: jax.Array, values: np.ndarray) -> jax.Array:
    """A copy of its own: a device array may otherwise share the memory of the numpy array it was made from."""
    if isinstance(like.sharding, jax.sharding.SingleDeviceSharding):
        return jnp.array(values, copy=True)
    return put(np.array(values, copy=True), like.sharding)
