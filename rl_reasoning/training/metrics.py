"""What an update says of itself: it returns sums as they are, and means are made of them when one is read.

In a compiled program each mean would be a kernel of its own.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
import numpy as np

from rl_reasoning.arrays import Array
from rl_reasoning.losses.objective import Totals

_MEANS = {  # sums of the objective, as means over the tokens that count
    "kl_behaviour_sum": "policy/kl_behaviour",
    "kl_reference_sum": "policy/kl_reference",
    "clipped_positive": "ratio/clipped_positive",
    "clipped_negative": "ratio/clipped_negative",
    "selected": "tokens/selected",
}


class Told(NamedTuple):
    """What comes with an update's gradient; all scalars.

    sums: what `losses.objective.objective_loss` adds up. total: the update's denominators, none of them 0.
    furthest: the largest log-ratio to the old policy, up or down. busy: bool, whether any token counted.
    """

    sums: Mapping[str, Array]
    total: Totals
    furthest: Array
    busy: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Metrics(Mapping[str, Array]):
    """Names that people read, and numbers; a pytree of what they are made of, all scalars.

    The first look outside a compiled program waits for the update and fetches all.

    Attributes:
      told: see there. gradient_norm: of all parameters, before clipping.
    """

    told: Told
    gradient_norm: Array

    @functools.cached_property
    def _numbers(self) -> dict[str, Array]:
        (sums, total, furthest, busy), norm = jax.device_get((self.told, self.gradient_norm))  # leaves tracers alone
        tokens = total.tokens
        means = {name: sums[own] / tokens for own, name in _MEANS.items() if own in sums}
        excess = sums["ratio_excess_sum"] / tokens
        variance = sums["ratio_excess_square_sum"] / tokens - excess ** 2
        means |= {"ratio/mean": 1 + excess, "ratio/std": variance.clip(min=0) ** 0.5}
        means["policy/entropy"] = sums["entropy_sum"] / total.answers
        means["gradient/right_share"] = sums["gradient_right"] / sums["gradient_all"].clip(min=1e-30)
        losses = {name: value for name, value in sums.items() if name.startswith("loss/")}
        return means | losses | {"ratio/log_max": furthest, "optimizer/gradient_norm": norm,
                                 "optimizer/skipped": 1.0 - (norm < np.inf), "optimizer/idle": 1.0 - busy}

    def __getitem__(self, name: str) -> Array:
        return self._numbers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)
