"""A verifier of your own: any function (problem, answer text) -> reward or Verdict, named by "module:function"."""

import dataclasses
import importlib
import math
import os
import re
import sys
from collections.abc import Callable
from typing import Any

from rl_reasoning.config import FUNCTION_NAME
from rl_reasoning.types import Outcome, Problem, Verdict


@dataclasses.dataclass(frozen=True)
class OwnVerifier:
    """The name of a function in a module; the function takes a `Problem` and an answer's text.

    It returns a `Verdict`, or a finite number as the reward: 1 is right, 0 is wrong, anything else is partial. True
    and False count as 1 and 0. Whatever else it returns (None, NaN) makes the answer unscorable, as raising does.

    Raises:
      ValueError: the name is not of the form module:function.
    """

    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(FUNCTION_NAME, self.name):
            raise ValueError(f"verifier.function={self.name!r} must be module:function, such as my_reward:score")

    def load(self) -> Callable[[Problem, str], Verdict]:
        """Imports the function; modules in the current folder are found too.

        Raises:
          ImportError, AttributeError, TypeError: there is no such module or function.
        """
        module, _, attribute = self.name.partition(":")
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        function = getattr(importlib.import_module(module), attribute)
        if not callable(function):
            raise TypeError(f"{self.name} is a {type(function).__name__}, not a function")
        return lambda problem, text: as_verdict(function(problem, text))


def as_verdict(returned: Any) -> Verdict:
    """The verdict that a function's value stands for; see `OwnVerifier`."""
    if isinstance(returned, Verdict):
        return returned
    try:
        reward = float(returned)
    except (TypeError, ValueError, OverflowError):
        return _unscorable(f"the verifier returned {returned!r:.80}, which is neither a number nor a Verdict")
    if not math.isfinite(reward):
        return _unscorable(f"the verifier returned {reward}")
    outcome = {1.0: Outcome.RIGHT, 0.0: Outcome.WRONG}.get(reward, Outcome.PARTIAL)
    return Verdict(outcome, reward, None, f"the verifier returned {reward:g}")


def _unscorable(reason: str) -> Verdict:
    return Verdict(Outcome.CRASH, float("nan"), None, reason)
