"""Tests of a program: it runs in one sandbox, and what it must not know stays outside.

Input/output tests: the expected output is here and is compared here. Assertions: the test's text runs in a second
sandbox, without the program; each call of a function of the program goes through this process to the first sandbox,
and a plain value comes back. So there is no verdict to forge where the program runs: exit codes, printed words,
patched builtins and objects that claim to equal everything are at most values that are compared, and found wrong.
"""

import dataclasses
import re
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rl_reasoning.tasks.code.sandbox import Sandbox, SandboxError, Sandboxes, SandboxGarbage

TOLERANCE = 1e-6  # relative, or absolute below 1, for numbers that are expected with a decimal point

_DECIMAL = re.compile(r"[+-]?[0-9]{1,300}\.[0-9]{1,300}(?:[eE][+-]?[0-9]{1,3})?")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,300}\.?[0-9]{0,300}|\.[0-9]{1,300})(?:[eE][+-]?[0-9]{1,3})?")


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a program may use, all its tests together.

    Attributes:
      level: of isolation, see `sandbox.LEVELS`.
      seconds: of processor time. A program that needs more fails the test, as in a contest.
      memory: bytes that each process may allocate.
      first_failure: whether to stop at it.
    """

    level: str
    seconds: float
    memory: int
    first_failure: bool

    @property
    def wall_seconds(self) -> float:
        """Seconds on the clock after which there is no verdict: the machine was too slow, or the program slept."""
        return 2 * self.seconds + 4

    def open(self, sandboxes: Sandboxes, deadline: float) -> Sandbox:
        """A sandbox with these limits."""
        return sandboxes.open(self.level, self.seconds, self.memory, deadline)


@dataclasses.dataclass
class Tally:
    """Tests that passed, tests that were run, and why the first one failed."""

    passed: int = 0
    run: int = 0
    why: str = ""

    def add(self, why: str) -> None:
        """Counts a test; an empty `why` is a pass."""
        self.run += 1
        self.passed += not why
        self.why = self.why or why

    def give_up(self, error: Exception) -> None:
        """Fails a test, and with it those that are still to come: the program no longer says what it is asked."""
        self.add(f"the program meddled with the sandbox: {error}")


def run_output_tests(sandboxes: Sandboxes, program: str, tests: Sequence[Mapping[str, str]], limits: Limits) -> Tally:
    """Runs a program once a test. Raises SandboxError when there is no verdict, SandboxTimeout among them."""
    tally, left, deadline = Tally(), limits.seconds, time.monotonic() + limits.wall_seconds
    with limits.open(sandboxes, deadline) as sandbox:
        sandbox.send({"program": program})
        for test in tests:
            try:
                why, used = _output_test(sandbox, test, left, limits.seconds)
            except (SandboxGarbage, KeyError, TypeError, ValueError) as error:
                tally.give_up(error)
                break
            left -= used
            tally.add(why)
            if why and limits.first_failure:
                break
    return tally


def _output_test(sandbox: Sandbox, test: Mapping[str, str], left: float, seconds: float) -> tuple[str, float]:
    """Why a test failed, empty when it passed, and the processor seconds it took."""
    if left <= 0:
        return _slow(seconds), 0.0
    reply = sandbox.ask({"run": test["input"], "cpu": left})
    printed, code, used = str(reply["stdout"]), int(reply["code"]), max(0.0, float(reply["cpu"]))
    if used >= left or code == -signal.SIGXCPU:
        return _slow(seconds), used
    if code != 0:
        return f"the program ended with code {code} {str(reply.get('error', ''))[:200]}".strip(), used
    if not same_output(printed, test["output"]):
        return f"printed {printed[:60]!r} and not {test['output'][:60]!r}", used
    return "", used


def _slow(seconds: float) -> str:
    return f"the program used up its {seconds:g} s of processor time"


def same_output(printed: str, expected: str) -> bool:
    """Whether two outputs agree word by word in each line; blank lines at the end do not count.

    A word that is expected with a decimal point may differ by `TOLERANCE`; everything else is compared as text.
    """
    ours, theirs = (text.rstrip().splitlines() for text in (printed, expected))
    return len(ours) == len(theirs) and all(
        len(a) == len(b) and all(map(_same_word, a, b))
        for a, b in zip(map(str.split, ours), map(str.split, theirs), strict=True))


def _same_word(printed: str, expected: str) -> bool:
    if printed == expected:
        return True
    if not _DECIMAL.fullmatch(expected) or not _NUMBER.fullmatch(printed):
        return False
    value = float(expected)
    return abs(float(printed) - value) <= TOLERANCE * max(1.0, abs(value))


def run_assertions(sandboxes: Sandboxes, program: str, tests: Sequence[str], setup: str, names: Sequence[str],
                   limits: Limits) -> Tally:
    """Runs each assertion against a fresh import of a program. Raises SandboxError when there is no verdict."""
    tally, left, deadline = Tally(), limits.seconds, time.monotonic() + limits.wall_seconds
    with limits.open(sandboxes, deadline) as programs, limits.open(sandboxes, deadline) as tester:
        programs.send({"program": program})
        for test in tests:
            request = {"judge": test, "setup": setup, "names": list(names), "cpu": limits.seconds}
            try:
                why, used = _assertion(programs, tester, request, left) if left > 0 else ("", 0.0)
            except SandboxGarbage as error:
                tally.give_up(error)
                break
            left -= used
            tally.add(_slow(limits.seconds) if left <= 0 else why)
            if tally.why and limits.first_failure:
                break
    return tally


def _assertion(programs: Sandbox, tester: Sandbox, request: Mapping[str, Any], left: float) -> tuple[str, float]:
    """Why an assertion failed, empty when it holds, and the processor seconds that the program took.

    Raises:
      SandboxGarbage: the program's side did not speak its protocol.
      SandboxError: there is no verdict.
    """
    first = programs.ask({"serve": {}, "cpu": left})
    if first.get("ready") is not True:
        said = f"{first['raised']}: {first.get('message')}"[:200] if "raised" in first else "it ended"
        return f"the program cannot be imported: {said}", _used(programs, first)
    failure, ended = _converse(programs, tester, request)
    if ended is None:
        programs.send({"stop": True})
    return failure, _used(programs, ended or {})


def _converse(programs: Sandbox, tester: Sandbox, request: Mapping[str, Any]) -> tuple[str, dict[str, Any] | None]:
    """Passes calls from the test to the program; why it failed, and the program's last reply if it ended on the way."""
    tester.send(request)
    failure, ended = "", None
    while True:
        message = tester.receive()
        if "passed" in message:
            tester.receive()  # that the test's process has ended
            return failure or ("" if message["passed"] is True else str(message["why"])), ended
        if "call" not in message:
            raise SandboxError(f"the test ended without a verdict: {message}")
        reply = programs.ask(message) if ended is None else ended
        if "value" in reply and "args" in reply:
            tester.send({"value": reply["value"], "args": reply["args"]})
        elif "raised" in reply:
            tester.send({"raised": str(reply["raised"]), "message": str(reply.get("message"))})
        elif "ended" in reply:
            failure, ended = f"the program ended in a call (code {reply['ended']})", reply
            tester.send({"raised": "RuntimeError", "message": failure})
        else:
            raise SandboxGarbage(f"{str(reply)[:80]} is no answer to a call")


def _used(programs: Sandbox, reply: Mapping[str, Any]) -> float:
    """Processor seconds of a served program, from the reply that says that it has ended."""
    while "ended" not in reply:
        if not reply.keys() <= {"raised", "message"}:
            raise SandboxGarbage(f"{str(reply)[:80]} where the program should end")
        reply = programs.receive()
    cpu = reply.get("cpu")
    return max(0.0, cpu) if isinstance(cpu, float) else 0.0
