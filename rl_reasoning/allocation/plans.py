"""How a step's problems are drawn and how many answers each gets: the third part of an algorithm's entry.

An option of a plan is written `plan_` and a field's name.
"""

import dataclasses

import numpy as np

from rl_reasoning.allocation.counts import ROUNDINGS, apportion
from rl_reasoning.allocation.gvm import answer_weights, sampling_weights
from rl_reasoning.require import require, require_choice

GRADIENTS = ("head", "full", "equal")
WEIGHTS = ("none", "counts", "rates")


def require_band(low: float, high: float) -> None:
    """Raises ValueError unless these are a range of acceptance rates."""
    require(0 <= low <= high <= 1, "plan_band_low", low, f"0 <= plan_band_low <= plan_band_high ({high}) <= 1",
            "Give a range of acceptance rates.")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The same number of answers to every problem.

    Attributes:
      refill: groups whose rewards are all equal are dropped and more problems drawn, in at most so many further
        rounds (dynamic sampling, arXiv 2503.14476, section 3.2); 0 takes the groups as they come.
      band_low, band_high: problems whose acceptance rate was last outside are passed over, and others drawn instead.
      band_steps: steps for which what was last seen of a problem rules it out.
    """

    refill: int = 0
    band_low: float = 0.0
    band_high: float = 1.0
    band_steps: int = 20

    def __post_init__(self) -> None:
        require(self.refill >= 0, "plan_refill", self.refill, "plan_refill >= 0", "Give the most further rounds.")
        require_band(self.band_low, self.band_high)
        require(self.band_steps >= 1, "plan_band_steps", self.band_steps, "plan_band_steps >= 1",
                "Give a number of steps.")

    @property
    def band(self) -> bool:
        """Whether some rates are outside."""
        return self.band_low > 0 or self.band_high < 1


@dataclasses.dataclass(frozen=True)
class Gvm:
    """As many answers to each problem as make the gradient's variance least (GVM, arXiv 2505.02391).

    First some answers to each problem estimate its acceptance rate p and gradient norm G; then rl.prompts * rl.samples
    answers are shared out by `gvm.sampling_weights`.

    Attributes:
      draws: answers that an estimate is made of, the first stage. Earlier answers to the same problem count, each
        step by `memory` less, so that a problem that comes again needs fewer new ones.
      every: steps for which an estimate serves before draws are added to it.
      memory: what a draw still counts a step later.
      alpha, beta: damping of problems that are hardly ever solved.
      minimum, maximum: answers of the second stage to each problem; a maximum of 0 is none.
      band_low, band_high: problems whose rate is outside get the minimum alone.
      least: so do those from which fewer right answers than this are expected.
      rounding: see `counts.apportion`.
      gradient: which gradient's norm G is: "head", of the output layer, without a backward pass; "full", of all that
        is trained, by one for each accepted answer; "equal" takes every G as 1.
      keep: the first stage's answers of a step are trained on, and count as answers of the second.
      weights: of answers in the loss: "none", as the released code does; "counts" 1 / n; "rates" 1 / (n p), Lemma 1 of
        the paper. See `gvm.answer_weights`.
    """

    draws: int = 8
    every: int = 10
    memory: float = 0.9
    alpha: float = 1e-3
    beta: float = 2.0
    minimum: int = 0
    maximum: int = 0
    band_low: float = 0.0
    band_high: float = 1.0
    least: float = 0.0
    rounding: str = "remainder"
    gradient: str = "head"
    keep: bool = False
    weights: str = "none"

    def __post_init__(self) -> None:
        for name, low in (("draws", 1), ("every", 1), ("minimum", 0), ("maximum", 0), ("least", 0)):
            value = getattr(self, name)
            require(value >= low, f"plan_{name}", value, f"plan_{name} >= {low}", "Give a number of answers or steps.")
        require(self.maximum == 0 or self.maximum >= self.minimum, "plan_maximum", self.maximum,
                f"0, or plan_maximum >= plan_minimum ({self.minimum})", "Give the most answers to one problem.")
        require(0 <= self.memory <= 1, "plan_memory", self.memory, "0 <= plan_memory <= 1",
                "Give what a draw still counts a step later, such as 0.9.")
        require_band(self.band_low, self.band_high)
        for name, choices in (("rounding", ROUNDINGS), ("gradient", GRADIENTS), ("weights", WEIGHTS)):
            require_choice(f"plan_{name}", getattr(self, name), choices)
        sampling_weights(np.zeros(1), np.zeros(1), alpha=self.alpha, beta=self.beta)

    def counts(self, norms: np.ndarray, rates: np.ndarray, total: int, *, drawn: np.ndarray | int = 0) -> np.ndarray:
        """[P] int64 answers of the second stage, summing to `total`; alike where no weight is left.

        The maximum gives way where P problems could not take the total.

        Args:
          norms, rates: [P] estimates. drawn: [P] answers that a problem has already and keeps.

        Raises:
          ValueError: see `sampling_weights`; or the bounds leave no way to reach the total.
        """
        def shared(weights: np.ndarray) -> np.ndarray:
            low = np.maximum(drawn, self.minimum)
            high = np.maximum(low, max(self.maximum, -(-total // len(weights)))) if self.maximum else None
            return apportion(weights, total, minimum=low, maximum=high, rounding=self.rounding)

        norms, rates = np.asarray(norms, np.float64), np.asarray(rates, np.float64)
        inside = (rates >= self.band_low) & (rates <= self.band_high)
        weights = np.where(inside, sampling_weights(norms, rates, alpha=self.alpha, beta=self.beta), 0)
        if not self.least:
            return shared(weights)
        return shared(np.where(rates * shared(weights) >= self.least, weights, 0))

    def answer_weights(self, counts: np.ndarray, rates: np.ndarray) -> np.ndarray:
        """[P] weights of each problem's answers in the loss."""
        if self.weights == "none":
            return np.ones(len(counts))
        return answer_weights(counts, rates if self.weights == "rates" else None)
