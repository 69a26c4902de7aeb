"""Problems and verifiers of your own: functions named by "module:function".

A verifier takes a problem and an answer's text and returns a reward or a `Verdict`; a source of problems takes
nothing and returns them.
"""

import dataclasses
import importlib
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from rl_reasoning.config import FUNCTION_NAME, Own
from rl_reasoning.tasks import choose, is_held_out
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
        function = load_function(self.name)
        return lambda problem, text: as_verdict(function(problem, text))


def load_function(name: str) -> Callable[..., Any]:
    """Imports module:function; modules in the current folder are found too.

    Raises:
      ImportError, AttributeError, TypeError: there is no such module or function.
    """
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    function = getattr(importlib.import_module(module), attribute)
    if not callable(function):
        raise TypeError(f"{name} is a {type(function).__name__}, not a function")
    return function


class OwnTask:
    """Problems that a function of the user's returns; `verifier.function` judges their answers."""

    name = "own"
    in_process = False

    def __init__(self, settings: Own):
        """Calls the function.

        Raises:
          ValueError: there is no such function, it failed, or what it returned are not distinct problems.
        """
        try:
            problems = list(load_function(settings.problems)())
        except Exception as error:  # whatever the user's code raises
            raise ValueError(f"task.own.problems={settings.problems!r} could not be called: {type(error).__name__}: "
                             f"{error}") from error
        _check(settings.problems, problems)
        self._held_out = [problem for problem in problems if is_held_out(problem.id, settings.held_out)]
        self._train = [problem for problem in problems if not is_held_out(problem.id, settings.held_out)]

    def train_problems(self) -> Sequence[Problem]:
        """Those that the hash of their ids does not hold out."""
        return self._train

    def held_out_problems(self, count: int, seed: int) -> tuple[Problem, ...]:
        """`count` of the others. Raises ValueError when there are fewer."""
        return choose(self._held_out, count, seed, self.name)

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Never called: settings without `verifier.function` are refused."""
        raise NotImplementedError("task.kind=own needs verifier.function")


def _check(name: str, problems: list) -> None:
    for number, problem in enumerate(problems):
        if not isinstance(problem, Problem):
            raise ValueError(f"task.own.problems={name!r}: item {number} is a {type(problem).__name__}, not a "
                             "rl_reasoning.types.Problem")
    repeated = {problem.id for problem in problems}
    if len(repeated) < len(problems):
        raise ValueError(f"task.own.problems={name!r}: {len(problems)} problems have {len(repeated)} ids; give each "
                         "its own, since random keys and the held-out split derive from it")


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
