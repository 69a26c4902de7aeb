"""What any objective may add to its surrogate, as records that check their own values.

An option of an algorithm is a record's field under the record's name: `kl_coefficient` is `Kl.coefficient`.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rl_reasoning.losses.kl import ESTIMATORS
from rl_reasoning.losses.mismatch import REJECTION_LEVELS, importance_weights, outside, rejection_mask
from rl_reasoning.require import require, require_choice

OFF = "off"


@dataclasses.dataclass(frozen=True)
class Kl:
    """A pull towards the policy that the run started from.

    Attributes:
      coefficient: weight of the penalty, per nat; 0 has none.
      place: "loss", averaged like the surrogate, or "reward", where the penalty of each sampled token is taken from
        its reward before the advantages (and from the whole answer's, for estimators that work on answers).
      estimator: one of `losses.ESTIMATORS`. k1 in the loss is refused: its expected gradient is 0.
      corrected: multiply by the ratio to the old policy (the loss only; see `losses.kl_penalty`).
      target: nats a token that an adaptive coefficient steers to; 0 keeps the coefficient.
      horizon: answers over which the adaptive coefficient moves (`losses.adaptive_kl_coefficient`).
    """

    coefficient: float = 0.0
    place: str = "loss"
    estimator: str = "k3"
    corrected: bool = False
    target: float = 0.0
    horizon: int = 10_000

    def __post_init__(self) -> None:
        require(0 <= self.coefficient < math.inf, "kl_coefficient", self.coefficient, "0 <= kl_coefficient < inf",
                "Give 0 for no penalty, or a weight such as 1e-3.")
        require_choice("kl_place", self.place, ("loss", "reward"))
        require_choice("kl_estimator", self.estimator, tuple(ESTIMATORS))
        require(self.place == "reward" or self.estimator != "k1", "kl_estimator", self.estimator,
                "in the loss: " + ", ".join(name for name in ESTIMATORS if name != "k1"),
                "The expected gradient of k1 as a loss is 0: use k3, or kl_place=reward.")
        require(self.place == "loss" or not self.corrected, "kl_corrected", self.corrected,
                "False with kl_place=reward", "The correction belongs to a penalty in the loss.")
        require(self.target >= 0, "kl_target", self.target, "kl_target >= 0",
                "Give nats a token; 0 keeps the coefficient.")
        require(self.target == 0 or self.coefficient > 0, "kl_coefficient", self.coefficient,
                "kl_coefficient > 0 with a kl_target", "Give the coefficient to start from, such as 1e-3.")
        require(self.horizon >= 1, "kl_horizon", self.horizon, "kl_horizon >= 1", "Give a number of answers.")

    @property
    def in_loss(self) -> bool:
        """Whether the penalty is a term of the loss."""
        return self.coefficient > 0 and self.place == "loss"

    @property
    def in_reward(self) -> bool:
        """Whether the penalty is taken from the rewards."""
        return self.coefficient > 0 and self.place == "reward"


@dataclasses.dataclass(frozen=True)
class Critic:
    """A critic and its loss.

    Attributes:
      coefficient: weight of the critic's loss.
      clip: how far a value may move from its old one before its loss is clipped.
      rate: the critic's learning rate, as a multiple of the policy's.
      model: "trunk", a linear head on the policy's hidden states, or "separate", a decoder of its own that starts as
        a copy of the policy.
    """

    coefficient: float = 1.0
    clip: float = 0.5
    rate: float = 10.0
    model: str = "trunk"

    def __post_init__(self) -> None:
        for name in ("coefficient", "clip", "rate"):
            value = getattr(self, name)
            require(0 < value < math.inf, f"critic_{name}", value, f"0 < critic_{name} < inf",
                    "Give a positive number.")
        require_choice("critic_model", self.model, ("trunk", "separate"))


@dataclasses.dataclass(frozen=True)
class TokenFilter:
    """Tokens that give no gradient but stay in the denominators.

    Attributes:
      entropy_share: only this share of the update's tokens, those of highest entropy, teaches (arXiv 2506.01939).
      drift: nats a token; wrong answers whose log-probabilities fell further than this are left out (arXiv
        2512.02556, which suggests 0.5). Infinity keeps all.
    """

    entropy_share: float = 1.0
    drift: float = math.inf

    def __post_init__(self) -> None:
        require(0 <= self.entropy_share <= 1, "tokens_entropy_share", self.entropy_share,
                "0 <= tokens_entropy_share <= 1", "Give the share of tokens to keep, such as 0.2.")
        require(self.drift > 0, "tokens_drift", self.drift, "tokens_drift > 0", "Give nats a token, such as 0.5.")


class Corrections(NamedTuple):
    """What a `Mismatch` makes of answers; all [N, T].

    weights: of the loss's values. keep: bool, tokens not rejected. cut: bool, tokens whose weight was bounded.
    """

    weights: jax.Array
    keep: jax.Array
    cut: jax.Array


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """Correction of answers that were not drawn from the policy that is trained: a top-p sample's, or an earlier one's.

    With any of it on, the old log-probabilities are computed again by the trainer, and ratios trainer / sampler weigh
    or reject tokens. `losses.importance_weights` and `losses.rejection_mask` say what each option means.

    Attributes:
      level: of the weights: "off", "token" or "sequence".
      mode: "truncate" or "mask" weights outside [low, high].
      normalized: divide the weights by their mean over the rollout.
      reject: leave tokens or whole answers out of loss and denominators: "off" or a level of the rejection mask.
      estimator, bound: of the rejection.
    """

    level: str = OFF
    mode: str = "truncate"
    low: float = 0.0
    high: float = 2.0
    normalized: bool = False
    reject: str = OFF
    estimator: str = "k1"
    bound: float = 2.0

    def __post_init__(self) -> None:
        require_choice("mismatch_level", self.level, (OFF, "token", "sequence"))
        require_choice("mismatch_mode", self.mode, ("truncate", "mask"))
        require(0 <= self.low <= 1, "mismatch_low", self.low, "0 <= mismatch_low <= 1", "Give the smallest ratio.")
        require(self.high >= 1, "mismatch_high", self.high, "mismatch_high >= 1", "Give the largest ratio.")
        require_choice("mismatch_reject", self.reject, (OFF, *REJECTION_LEVELS))
        require_choice("mismatch_estimator", self.estimator, ("k1", "k2", "k3"))
        smallest = 1 if self.estimator == "k1" else 0
        require(self.bound >= smallest, "mismatch_bound", self.bound,
                f"mismatch_bound >= {smallest} for {self.estimator}", "Give the largest mismatch to keep.")

    @property
    def on(self) -> bool:
        """Whether anything is corrected or rejected."""
        return self.level != OFF or self.reject != OFF

    def corrections(self, logp: jax.Array, sampler_logp: jax.Array, mask: jax.Array) -> "Corrections":
        """Of all answers of a rollout; arguments are [N, T]."""
        weights, keep, cut = mask.astype(logp.dtype), mask, jnp.zeros_like(mask)
        if self.level != OFF:
            weights = importance_weights(logp, sampler_logp, mask, level=self.level, low=self.low, high=self.high,
                                         mode=self.mode, normalized=self.normalized)
            cut = outside(logp, sampler_logp, mask, level=self.level, low=self.low, high=self.high)
        if self.reject != OFF:
            keep = rejection_mask(logp, sampler_logp, mask, estimator=self.estimator, level=self.reject,
                                  high=self.bound)
        return Corrections(weights, keep, cut)
