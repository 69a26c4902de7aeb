"""The task: write a program that passes tests."""

import functools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rl_reasoning.config import Code as Settings
from rl_reasoning.tasks import choose, is_held_out
from rl_reasoning.tasks.code.answers import program_of
from rl_reasoning.tasks.code.checks import Limits, Tally, run_assertions, run_output_tests
from rl_reasoning.tasks.code.problems import CodeProblems, read_problems
from rl_reasoning.tasks.code.sandbox import SandboxError, Sandboxes, SandboxTimeout, reach
from rl_reasoning.types import Outcome, Problem, Verdict


class Code:
    """Programs checked by tests in a sandbox.

    Rewards by name: `binary` 1 when every test passes, else 0; `rate` the share of tests that pass; `klear`
    2 * share - 1, in [-1, 1] (Klear-Reasoner, arXiv:2508.07629).

    Attributes:
      level: the isolation level that this machine reaches, see `sandbox.LEVELS`.

    Args:
      settings: see `rl_reasoning.config.Code`.
      level: what was reached before, for the copies in verifier processes; None tries it out.

    Raises:
      SandboxError: this machine does not reach the weakest level that the settings accept.
    """

    name = "code"
    in_process = False

    def __init__(self, settings: Settings, level: str | None = None):
        self._settings, self.level = settings, level or reach(settings.isolation)
        self._sandboxes = Sandboxes()

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy takes no problems along, since each call of `verify` brings its own."""
        return Code, (self._settings, self.level)

    @functools.cached_property
    def file(self) -> CodeProblems:
        """The problems of `task.code.path` and the rows that were skipped. Raises what `read_problems` raises."""
        return read_problems(Path(self._settings.path), self._settings.strict)

    def train_problems(self) -> Sequence[Problem]:
        """Problems that the hash of their id leaves for training."""
        return tuple(p for p in self.file.problems if not is_held_out(p.id, self._settings.held_out))

    def held_out_problems(self, count: int, seed: int) -> tuple[Problem, ...]:
        """Problems that are never trained on. Raises ValueError when there are too few."""
        held_out = [p for p in self.file.problems if is_held_out(p.id, self._settings.held_out)]
        return choose(held_out, count, seed, self.name)

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Runs the answer's program against at most `tests` of the problem's tests, the same ones for every answer.

        A test that fails, takes too much processor time or memory, or ends with an error counts against the program.
        TIMEOUT and CRASH are the sandbox's: it was not heard of in time, or runs of the same program disagree.
        """
        program = program_of(text)
        if program is None:
            return Verdict(Outcome.UNPARSABLE, self._reward(0.0), None, "no closed ``` block of Python")
        try:
            tallies = [self._run(problem, program) for _ in range(self._settings.repeats)]
        except SandboxTimeout as error:
            return _unscorable(Outcome.TIMEOUT, f"no verdict: {error}")
        except SandboxError as error:
            return _unscorable(Outcome.CRASH, f"no verdict: {error}")
        if len({tally.passed for tally in tallies}) > 1:
            return _unscorable(Outcome.CRASH, f"runs disagree: {[tally.passed for tally in tallies]} tests passed")
        return self._verdict(tallies[0], len(self._tests(problem)), program)

    def _run(self, problem: Problem, program: str) -> Tally:
        settings, answer, tests = self._settings, problem.answer, self._tests(problem)
        limits = Limits(self.level, settings.seconds, settings.memory << 20, settings.reward == "binary")
        if "tests" in answer:
            return run_output_tests(self._sandboxes, program, tests, limits)
        return run_assertions(self._sandboxes, program, tests, answer["setup"], answer["names"], limits)

    def _tests(self, problem: Problem) -> list[Any]:
        """The problem's tests, or as many as allowed, drawn by its id."""
        tests, most = problem.answer.get("tests") or problem.answer["assertions"], self._settings.tests
        if len(tests) <= most:
            return list(tests)
        return [tests[i] for i in sorted(random.Random(problem.number).sample(range(len(tests)), most))]

    def _verdict(self, tally: Tally, count: int, program: str) -> Verdict:
        share = tally.passed / count
        said = f"{tally.passed} of {tally.run} tests passed" + (f"; {tally.why}" if tally.why else "")
        if tally.passed == count:
            return Verdict(Outcome.RIGHT, self._reward(1.0), program, said)
        if tally.passed == 0 or self._settings.reward == "binary":
            return Verdict(Outcome.WRONG, self._reward(0.0), program, said)
        return Verdict(Outcome.PARTIAL, self._reward(share), program, said)

    def _reward(self, share: float) -> float:
        return 2 * share - 1 if self._settings.reward == "klear" else share


def _unscorable(outcome: Outcome, reason: str) -> Verdict:
    return Verdict(outcome, float("nan"), None, reason)
