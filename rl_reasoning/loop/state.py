"""The whole state of the loop as one record, and what of it a checkpoint keeps.

Random keys and the order of problems derive from the seed and the numbers kept here, so that a run which goes on from
a checkpoint does, bit for bit, what it would have done without the stop. The reference policy is the base, which is
kept for itself; its digest is among the fingerprints.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from rl_reasoning.allocation import Estimates, History
from rl_reasoning.parallel.exchange import put
from rl_reasoning.training.state import TrainState


class Position(Protocol):
    """Where a run is in what it trains on, as a `Stream` knows it; JSON-able."""

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on where `get_state` was called. Raises ValueError when that was of something else."""


class LoopState(NamedTuple):
    """All that one step hands to the next.

    train: parameters and optimizer. drawn: batches of problems taken from the stream. kl_coefficient: of the penalty
    in the reward. step: how many are done. streaks: steps in a row, up to this one, that went wrong in one way
    (`loop.watch`). estimates: of the problems, for a plan that reads them. history: answers to be trained on again.
    """

    train: TrainState
    drawn: int
    kl_coefficient: float
    step: int = 0
    streaks: Mapping[str, int] = {}
    estimates: Estimates = Estimates()
    history: History = History()


def arrays(state: LoopState) -> dict[str, Any]:
    """The arrays that a checkpoint keeps. Weights that are not trained are the base's, and are not kept again."""
    train = state.train
    return {"parameters": train.parameters, "optimizer": train.optimizer, "updates": train.updates}


def facts(state: LoopState, stream: Position) -> dict[str, Any]:
    """What a checkpoint keeps beside the arrays, JSON-able; a float's digits are all there."""
    return {"step": state.step, "stream": stream.get_state() | {"next": state.drawn},
            "kl_coefficient": state.kl_coefficient, "streaks": dict(state.streaks),
            "estimates": state.estimates.get_state(), "history": state.history.get_state()}


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
    return begun._replace(train=begun.train._replace(**placed), drawn=int(said["stream"]["next"]),
                          kl_coefficient=said["kl_coefficient"], step=said["step"],
                          streaks=said.get("streaks", {}), estimates=Estimates.from_state(said.get("estimates", {})),
                          history=History.from_state(said.get("history", {})))


def _place(like: jax.Array, values: np.ndarray) -> jax.Array:
    """A copy of its own: a device array may otherwise share the memory of the numpy array it was made from."""
    if isinstance(like.sharding, jax.sharding.SingleDeviceSharding):
        return jnp.array(values, copy=True)
    return put(np.array(values, copy=True), like.sharding)
