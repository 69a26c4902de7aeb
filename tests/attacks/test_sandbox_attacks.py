"""T40 to T44: programs that cheat, exhaust or escape are run for real; none is paid, none leaves anything behind."""

import os
import pathlib
import socket
import time

import pytest
from code_attacks import ESCAPES, EXHAUSTIONS, FORGERIES, SOLVE

from rl_reasoning import config
from rl_reasoning.tasks.code import checks, sandbox
from rl_reasoning.tasks.code.task import Code
from rl_reasoning.types import Outcome, Problem

SECONDS = 1.0
LOOPS_LIKE_OTHERS = ("new_session", "close_output_and_loop", "raise_the_limits", "deep_recursion", "endless_c_code")
SCRIPT = Problem("script", "add", {"tests": [{"input": "3 4\n", "output": "7\n"}, {"input": "1 5", "output": "6"}]},
                 "code")
FUNCTION = Problem("function", "add", {"assertions": ["assert add(3, 4) == 7", "assert 6 == add(a=1, b=5)"],
                                       "setup": "", "names": ["add"]}, "code")
PROBLEMS = {"script": SCRIPT, "function": FUNCTION}


def verify(problem, program, level="namespace", **changes):
    """The verdict, after a look at what is left: one helper of each task, and nothing below it."""
    task = Code(config.Code(seconds=SECONDS, reward="rate", **changes), level)
    verdict = task.verify(problem, f"<think>7</think>\n```python\n{program}\n```")
    until = time.monotonic() + 1.0
    while left := [pid for helper in children(os.getpid()) for pid in children(helper)]:
        assert time.monotonic() < until, left  # a process that has closed all its files may still be on its way out
        time.sleep(0.005)
    return verdict


def children(pid):
    return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_an_honest_program_is_right(problem):
    """The control: every attack below fails on problems that can be solved."""
    verdict = verify(problem, SOLVE)
    assert (verdict.outcome, verdict.reward) == (Outcome.RIGHT, 1.0), verdict.reason


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
@pytest.mark.parametrize("name", FORGERIES)
def test_t40_a_program_cannot_forge_its_verdict(name, problem):
    verdict = verify(problem, FORGERIES[name])
    assert not verdict.reward > 0, verdict
    assert verdict.outcome in (Outcome.WRONG, Outcome.CRASH)


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.slow) if name in LOOPS_LIKE_OTHERS else name for name in EXHAUSTIONS])
def test_t41_a_program_cannot_exhaust_the_machine(name):
    """Killed soon after its processor time is used up, with everything it started."""
    began = time.monotonic()
    verdict = verify(SCRIPT, EXHAUSTIONS[name] + SOLVE if name == "error_output" else EXHAUSTIONS[name])
    assert (verdict.outcome == Outcome.RIGHT) == (name == "error_output"), verdict
    assert not verdict.reward > 0 or name == "error_output"
    assert time.monotonic() - began < 2 * SECONDS + 6  # the sandbox's deadline on the clock, on a busy machine


def test_t41_memory_is_bounded():
    """A program that takes what it can get, and then says how much that was at most."""
    greedy = ("x = []\ntry:\n    while True: x.append(bytearray(10**7))\nexcept MemoryError: x = None\n"
              "import resource\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)")
    sandboxes = sandbox.Sandboxes()
    with sandboxes.open("namespace", 5.0, 256 << 20, time.monotonic() + 20) as inside:
        inside.send({"program": greedy})
        kibibytes = int(inside.ask({"run": "", "cpu": 5.0})["stdout"])
    assert 128 << 10 < kibibytes < 300 << 10


def test_t41_output_is_bounded():
    sandboxes = sandbox.Sandboxes()
    with sandboxes.open("namespace", 5.0, 256 << 20, time.monotonic() + 20) as inside:
        inside.send({"program": "while True: print('7' * 10**6)"})
        reply = inside.ask({"run": "", "cpu": 5.0})
    assert len(reply["stdout"]) <= 2 * 65536


def test_t41_a_program_that_sleeps_has_no_verdict(monkeypatch):
    """It used no processor time, so nobody can tell it from one on a machine that is too slow: unscorable."""
    monkeypatch.setattr(checks.Limits, "wall_seconds", 1.0)
    verdict = verify(SCRIPT, "import time\ntime.sleep(999)")
    assert verdict.outcome == Outcome.TIMEOUT


def filled_in(program, tmp_path, port):
    return (program.replace("PORT", str(port)).replace("PARENT", str(os.getpid()))
            .replace("CANARY_FILE", str(tmp_path / "canary")))


@pytest.fixture
def port():
    """A port on which somebody listens, so that only the sandbox stands between a program and a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("name", ESCAPES)
def test_t42_a_program_reaches_nothing_outside(name, tmp_path, port, monkeypatch):
    monkeypatch.setenv("CANARY", "CANARY")
    tmp_path.chmod(0o777)
    verdict = verify(SCRIPT, filled_in(ESCAPES[name], tmp_path, port))
    assert (verdict.outcome, verdict.reward) == (Outcome.WRONG, 0.0), verdict
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", [
    "tcp_connect", "udp", "ssh_keys", "shadow", "secret_of_another_process", "write_outside", "write_to_the_library",
    "ptrace", "memory_of_the_machine", "signal_the_trainer"])
def test_t43_landlock_denies_too(name, tmp_path, port, monkeypatch):
    monkeypatch.setenv("CANARY", "CANARY")
    tmp_path.chmod(0o777)
    verdict = verify(SCRIPT, filled_in(ESCAPES[name], tmp_path, port), level="landlock")
    assert (verdict.outcome, verdict.reward) == (Outcome.WRONG, 0.0), verdict
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["fork_bomb", "endless_loop"])
@pytest.mark.parametrize("level", ["landlock", "none"])
def test_t43_weaker_levels_leave_no_process_either(level, name):
    assert not verify(SCRIPT, EXHAUSTIONS[name], level=level).reward > 0


@pytest.mark.parametrize("level", sandbox.LEVELS)
def test_t43_an_honest_program_is_right_at_every_level(level):
    assert verify(SCRIPT, SOLVE, level=level).reward == 1.0


def test_t43_isolation_that_cannot_be_had_is_refused(monkeypatch):
    """A machine on which only limits work: refused, with the reasons and the setting, unless `none` was asked for."""
    whole = sandbox.Sandboxes.open

    def limited(self, level, *arguments):
        if level != "none":
            raise sandbox.SandboxError(f"isolation {level}: not permitted here")
        return whole(self, level, *arguments)

    monkeypatch.setattr(sandbox.Sandboxes, "open", limited)
    sandbox.reach.cache_clear()
    with pytest.raises(sandbox.SandboxError, match=r"landlock: not permitted here.*task\.code\.isolation"):
        Code(config.Code(isolation="landlock"))
    assert Code(config.Code(isolation="none")).level == "none"
    sandbox.reach.cache_clear()


def test_t44_a_program_whose_runs_disagree_has_no_verdict():
    """The clock decides here; every run of a program starts from the same random numbers and the same hash seed."""
    flaky = "import time\na, b = map(int, input().split())\nprint(a + b if int(time.perf_counter() * 1e7) % 2 else 0)"
    tests = [{"input": f"{i} 1", "output": str(i + 1)} for i in range(16)]
    verdict = verify(Problem("flaky", "", {"tests": tests}, "code"), flaky, repeats=4)
    assert verdict.outcome == Outcome.CRASH
    assert "disagree" in verdict.reason
    chance = "import random\na, b = map(int, input().split())\nprint(a + b if random.random() < 0.9 else hash('x'))"
    again = [verify(SCRIPT, chance, repeats=2) for _ in range(2)]
    assert again[0] == again[1]
    assert again[0].scorable
