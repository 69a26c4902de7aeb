"""What happens to rewards before they become advantages, and to answers after."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from rl_reasoning.arrays import Array
from rl_reasoning.require import require, require_choice


@dataclasses.dataclass(frozen=True)
class Shaping:
    """Options of any algorithm. An option of it is written `shaping_` and a field's name.

    Attributes:
      truncated: how answers that ran out of room are treated: "verdict" takes the verifier's word; "penalise" gives
        them `truncated_reward` instead; "mask" leaves them out of the loss, their reward still in the group's
        baseline (overlong filtering, arXiv 2503.14476, section 3.4).
      truncated_reward: see above. A fixed number and not a factor: a factor below 1 would reward a negative score.
      overlong_buffer: tokens before the limit in which `overlong_penalty` grows; 0 has no penalty.
      overlong_factor: the penalty at the limit.
      informative_only: groups whose rewards are all equal leave numerator and denominator.
    """

    truncated: str = "verdict"
    truncated_reward: float = 0.0
    overlong_buffer: int = 0
    overlong_factor: float = 1.0
    informative_only: bool = False

    def __post_init__(self) -> None:
        require_choice("shaping_truncated", self.truncated, ("verdict", "penalise", "mask"))
        require(math.isfinite(self.truncated_reward), "shaping_truncated_reward", self.truncated_reward,
                "a finite number", "Give the reward of a truncated answer, such as 0.")
        require(self.overlong_buffer >= 0, "shaping_overlong_buffer", self.overlong_buffer,
                "shaping_overlong_buffer >= 0", "Give a number of tokens; 0 has no penalty.")
        require(self.overlong_factor >= 0, "shaping_overlong_factor", self.overlong_factor,
                "shaping_overlong_factor >= 0", "Give the size of the penalty; its sign is built in.")

    @property
    def keeps_binary(self) -> bool:
        """Whether rewards of 0 and 1 stay rewards of 0 and 1."""
        penalises = self.truncated == "penalise" and self.truncated_reward not in (0, 1)
        return not penalises and not (self.overlong_buffer and self.overlong_factor)

    def rewards(self, rewards: np.ndarray, lengths: np.ndarray, truncated: np.ndarray, max_length: int) -> np.ndarray:
        """The rewards [N] that advantages are made of; unscorable ones (NaN) stay so.

        Args: lengths: [N], tokens. truncated: [N] bool. max_length: tokens, the longest answer allowed.
        """
        shaped = np.asarray(rewards, np.float32)
        if self.truncated == "penalise":
            shaped = np.where(truncated & np.isfinite(shaped), np.float32(self.truncated_reward), shaped)
        if self.overlong_buffer:
            shaped = shaped + np.asarray(overlong_penalty(lengths, max_length=max_length, buffer=self.overlong_buffer,
                                                          factor=self.overlong_factor))
        return shaped

    def kept(self, rewards: np.ndarray, groups: np.ndarray, truncated: np.ndarray) -> np.ndarray:
        """[N] bool: the answers that stay in the loss. rewards: [N], shaped. groups: [N], ids 0..P-1."""
        kept = ~truncated if self.truncated == "mask" else np.ones(len(rewards), bool)
        if not self.informative_only:
            return kept
        return kept & informative(rewards, groups)[groups]


def informative(rewards: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """[P] bool: the groups with two scorable answers whose rewards differ. rewards, groups: [N], ids 0..P-1."""
    best, worst = extremes(rewards, groups)
    return best > worst


def extremes(rewards: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[P] the best and the worst scorable reward of each group; -inf and inf where there is none."""
    count = int(groups.max()) + 1
    valid = np.isfinite(rewards)
    best, worst = np.full(count, -np.inf), np.full(count, np.inf)
    np.maximum.at(best, groups[valid], rewards[valid])
    np.minimum.at(worst, groups[valid], rewards[valid])
    return best, worst


def overlong_penalty(lengths: Array, *, max_length: int, buffer: int, factor: float = 1.0) -> jax.Array:
    """DAPO's soft penalty for answers close to the limit, to be added to rewards (arXiv 2503.14476, equation 13).

    0 up to max_length - buffer tokens, then linear to -factor at max_length.

    Args:
      lengths: [N] int, tokens.
      max_length: tokens, the longest answer allowed.
      buffer: tokens before the limit in which the penalty grows.
      factor: the penalty at the limit, in the reward's unit.

    Returns:
      [N] float32, <= 0.

    Raises:
      ValueError: not 1 <= buffer <= max_length, or factor < 0.
    """
    require(1 <= buffer <= max_length, "buffer", buffer, f"1 <= buffer <= max_length ({max_length})",
            "Give a number of tokens.")
    require(factor >= 0, "factor", factor, "factor >= 0", "Give the size of the penalty; its sign is built in.")
    excess = (jnp.asarray(lengths) - (max_length - buffer)).astype(jnp.float32)
    return jnp.minimum(-excess / buffer * factor, 0)
