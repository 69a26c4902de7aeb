"""Measures verifiers: what the pool costs, what answers that hang cost, and how many programs a second are judged.

    python scripts/benchmark_verifiers.py [--workers=2] [--answers=1000]

Each ratio is taken within one run, its two sides measured in turns, so that a busy machine stretches both.
"""

import argparse
import functools
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from rl_reasoning import config
from rl_reasoning.tasks.code.task import Code
from rl_reasoning.tasks.countdown import Countdown
from rl_reasoning.tasks.pool import InProcess, VerifierPool
from rl_reasoning.types import Problem

TURNS = 3
DEADLINE = 0.5  # seconds, for the answers that hang


def one_millisecond(problem: Problem, text: str) -> float:
    """A verifier that takes a millisecond of processor time, or for ever."""
    until = time.process_time() + (float("inf") if text == "hang" else 1e-3)
    while time.process_time() < until:
        pass
    return 1.0


def die(problem: Problem, text: str) -> float:
    """A verifier that takes its process along."""
    os._exit(1)


def in_turns(*measured: Callable[[], Any]) -> list[float]:
    """Median wall seconds of each function, over `TURNS` turns."""
    seconds: list[list[float]] = [[] for _ in measured]
    for _ in range(TURNS):
        for record, function in zip(seconds, measured, strict=True):
            began = time.perf_counter()
            function()
            record.append(time.perf_counter() - began)
    return [statistics.median(record) for record in seconds]


def countdown(workers: int, answers: int) -> None:
    """A verifier of microseconds: here, and in the pool."""
    task = Countdown(config.Countdown())
    items = [(task.problem((3, 5, 7), 26), "3 * 7 = 21 21 + 5 = 26")] * answers
    with VerifierPool(task, config.Verifier(workers=workers)) as pool:
        here, there = in_turns(lambda: InProcess(task).verify_all(items), lambda: pool.verify_all(items))
    print(f"countdown: {answers / here:,.0f} verdicts/s in process, {answers / there:,.0f} in the pool; the pool takes "
          f"{there / here:.1f} times as long")


def throughput(workers: int, answers: int) -> None:
    """A verifier of a millisecond: in a loop, in the pool, and in the pool with one answer in a hundred hanging."""
    problem = Problem("p", "", None, "benchmark")
    good = [(problem, "")] * answers
    bad = [(problem, "hang" if i % 100 == 50 else "") for i in range(answers)]
    settings = config.Verifier(function="benchmark_verifiers:one_millisecond", workers=workers, seconds=DEADLINE)
    with VerifierPool(Countdown(config.Countdown()), settings) as pool:
        loop, pooled, hanging = in_turns(lambda: [one_millisecond(*item) for item in good],
                                         lambda: pool.verify_all(good), lambda: pool.verify_all(bad))
    hung = answers // 100
    print(f"1 ms verifier: {answers / loop:,.0f} verdicts/s in a loop, {answers / pooled:,.0f} with {workers} workers: "
          f"{loop / pooled:.2f} times as many")
    print(f"1 % hanging, deadline {DEADLINE} s: {hanging:.2f} s against {pooled:.2f} s with none, ratio "
          f"{hanging / pooled:.2f}; {hung} deadlines on {workers} workers alone are {hung * DEADLINE / workers:.2f} s")


def replacement(workers: int) -> None:
    """Starting a pool, and putting a fresh worker in the place of one that died."""
    settings = config.Verifier(function="benchmark_verifiers:die", workers=workers)
    began = time.perf_counter()
    with VerifierPool(Countdown(config.Countdown()), settings) as pool:
        started = time.perf_counter() - began
        began = time.perf_counter()
        pool.verify_all([(Problem("p", "", None, "benchmark"), "")] * 50)
        seconds = (time.perf_counter() - began) / pool.counts()["verifier/replaced"]
    print(f"pool of {workers} started in {1e3 * started:.0f} ms; a dead worker is found and replaced in "
          f"{1e3 * seconds:.1f} ms")


def programs(workers: int, answers: int) -> None:
    """Programs with sixteen input/output tests, and with four assertions."""
    tests = [{"input": f"{i} {i}\n", "output": f"{2 * i}\n"} for i in range(16)]
    script = Problem("script", "", {"tests": tests}, "code")
    function = Problem("function", "", {"assertions": [f"assert f({i}) == {i}" for i in range(4)], "setup": "",
                                        "names": ["f"]}, "code")
    task = Code(config.Code())
    with VerifierPool(task, config.Verifier(workers=workers)) as pool:
        solved = ((script, "print(sum(map(int, input().split())))"), (function, "def f(x): return x"))
        items = [[(problem, f"```python\n{program}\n```")] * answers for problem, program in solved]
        sixteen, four = in_turns(*(functools.partial(pool.verify_all, each) for each in items))
    print(f"code at isolation level {task.level}, {workers} workers: {answers / sixteen:.1f} answers/s with 16 tests, "
          f"{answers / four:.1f} with 4 assertions")


def main(arguments: list[str]) -> int:
    """Prints a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default 2)")
    parser.add_argument("--answers", type=int, default=1000, help="answers of each measurement, 100 or more")
    options = parser.parse_args(arguments)
    if options.workers < 1 or options.answers < 100:
        parser.error(f"--workers={options.workers} must be 1 or more, and --answers={options.answers} 100 or more")
    replacement(options.workers)
    countdown(options.workers, options.answers)
    throughput(options.workers, options.answers)
    programs(options.workers, options.answers // 20)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
