"""Which problems get how many samples: pure functions of numbers on the host."""

from rl_reasoning.allocation.counts import apportion
from rl_reasoning.allocation.estimates import Estimates
from rl_reasoning.allocation.gvm import answer_weights, sampling_weights, variance_bound
from rl_reasoning.allocation.plans import Gvm, Plan
from rl_reasoning.allocation.replay import History, Replay

__all__ = ["Estimates", "Gvm", "History", "Plan", "Replay", "answer_weights", "apportion", "sampling_weights",
           "variance_bound"]
