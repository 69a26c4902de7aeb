"""A policy objective as data: which per-token loss, how it is averaged, and what is added to it."""

import dataclasses
from collections.abc import Callable

from rl_reasoning.losses.surrogate import SurrogateInputs, Terms


@dataclasses.dataclass(frozen=True)
class Objective:
    """What one update minimises.

    Attributes:
      surrogate: the per-token policy loss.
      aggregation: how tokens are averaged (`losses.reduction.aggregate`).
      max_length: tokens, the constant of the aggregation `sequence_sum_token_norm`.
      entropy: coefficient of the entropy bonus, per nat.
      value: coefficient of the critic's loss; 0 without a critic.
      value_clip: how far a value may move from its old one before its loss is clipped.
    """

    surrogate: Callable[[SurrogateInputs], Terms]
    aggregation: str
    max_length: int
    entropy: float = 0.0
    value: float = 0.0
    value_clip: float = 0.5
