"""Kills a run again and again, and shows that it ends as if nothing had happened.

    python scripts/soak.py                         # 2,000 steps, 100 kills
    python scripts/soak.py --steps=60 --kills=3    # a minute

Runs tiny experiments once without any disturbance, watching its memory, file descriptors, threads and compiled
programs, and once with kills at random moments: most with SIGKILL, some with SIGTERM, some while it starts, each
process with another hash seed, time zone and locale. Then both must have the same metrics, answers and parameters,
byte for byte. Exit code 0 says so.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = ROOT / "experiments" / "configs" / "countdown.py"
NAME = "countdown-smoke-w_reinforce-seed0"
SETTINGS = {"warm_start.steps": 20, "warm_start.refine_steps": 0, "rl.minibatches": 1, "evaluation.samples": 4,
            "evaluation.batch": 32, "watch.truncated_high": 0, "watch.repetition_high": 0, "checkpoint.every": 10}
PREEMPTED = 75


@dataclasses.dataclass
class Usage:
    """What a process holds: MiB of memory, descriptors, threads; and programs compiled so far by anybody."""

    memory: float
    descriptors: int
    threads: int
    programs: int


def start(work: pathlib.Path, steps: int, **environment: str) -> subprocess.Popen:
    """The experiment in a process of its own, in folder `work`, going on with what that holds."""
    settings = SETTINGS | {"rl.steps": steps, "workdir": work}
    command = [sys.executable, str(ROOT / "experiments" / "run.py"), f"--config={CONFIG}:smoke",
               *(f"--config.{name}={value}" for name, value in settings.items())]
    environment = {"JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", **os.environ,
                   "PYTHONPATH": str(ROOT), **environment}
    with (work / "log.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=work, env=environment, stdout=log, stderr=log)


def elsewhere(rng: random.Random) -> dict[str, str]:
    """What a process finds on another machine, and must not depend on: hash seed, time zone, locale."""
    return {"PYTHONHASHSEED": str(rng.randrange(1000)), "TZ": rng.choice(["UTC", "Asia/Tokyo", "America/Lima"]),
            "LC_ALL": rng.choice(["C", "C.UTF-8", "POSIX"])}


def undisturbed(work: pathlib.Path, steps: int, cache: pathlib.Path) -> list[Usage]:
    """Runs to the end; returns what the process held, four times a second from its first step to its last."""
    process, found = start(work, steps), []
    while process.poll() is None:
        if 0 < done(work) < steps:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, KeyError):  # it may end meanwhile
                found.append(usage(process.pid, cache))
        time.sleep(0.25)
    if process.wait():
        raise SystemExit(f"the undisturbed run ended with {process.returncode}; see {work / 'log.txt'}")
    return found


def usage(pid: int, cache: pathlib.Path) -> Usage:
    """What a process holds now."""
    facts = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    return Usage(int(facts["VmRSS"].split()[0]) / 1024, len(os.listdir(f"/proc/{pid}/fd")), int(facts["Threads"]),
                 len(list(cache.glob("*-cache"))))


def disturbed(work: pathlib.Path, steps: int, kills: int, rng: random.Random) -> dict[str, int]:
    """Runs to the end through `kills` kills; returns how many there were of each kind."""
    counts = {"while starting": 0, "SIGKILL": 0, "SIGTERM": 0}
    for _ in range(kills):
        process, before, kind = start(work, steps, **elsewhere(rng)), done(work), kind_of_kill(rng)
        if kind == "while starting":
            wanted, deadline = steps, time.monotonic() + rng.uniform(0, 5)
        else:
            wanted, deadline = before + rng.randint(1, max(1, 2 * steps // kills)), time.monotonic() + 300
        while done(work) < wanted and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))  # not always right after a step
        if process.poll() is not None and process.returncode:
            raise SystemExit(f"the run ended by itself with {process.returncode}; see {work / 'log.txt'}")
        process.send_signal(signal.SIGTERM if kind == "SIGTERM" else signal.SIGKILL)
        code = process.wait(timeout=120)
        if kind == "SIGTERM" and code not in (0, PREEMPTED):
            raise SystemExit(f"SIGTERM gave exit code {code}; see {work / 'log.txt'}")
        counts[kind] += 1
        if finished(work):
            break
    if not finished(work):
        last = start(work, steps)
        if last.wait():
            raise SystemExit(f"the last run ended with {last.returncode}; see {work / 'log.txt'}")
    return counts


def kind_of_kill(rng: random.Random) -> str:
    """Eight of ten kills are SIGKILL in the middle of the work."""
    return rng.choices(["SIGKILL", "SIGTERM", "while starting"], [8, 1, 1])[0]


def done(work: pathlib.Path) -> int:
    """Steps in the run's metrics."""
    path = work / NAME / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def finished(work: pathlib.Path) -> bool:
    """Whether the run has done all its steps."""
    path = work / NAME / "status.json"
    return path.exists() and json.loads(path.read_text())["status"] == "finished"


def differences(one: pathlib.Path, other: pathlib.Path, steps: int) -> list[str]:
    """What two runs do not agree on."""
    names = ["metrics.jsonl", *(f"evaluations/{name}.jsonl" for name in ("base", f"step_{steps:04d}", "summary"))]
    found = [name for name in names if (one / NAME / name).read_bytes() != (other / NAME / name).read_bytes()]
    arrays = [json.loads((work / NAME / "checkpoints" / f"step_{steps:04d}" / "record.json").read_text())["arrays"]
              for work in (one, other)]
    return found + [f"the parameters' {name}" for name in arrays[0] if arrays[0][name] != arrays[1].get(name)]


def growth(found: list[Usage]) -> str:
    """One line: what the process held after a quarter of the run, and at its last step."""
    early, late = found[len(found) // 4], found[-1]
    return (f"memory {early.memory:.1f} -> {late.memory:.1f} MiB ({100 * (late.memory / early.memory - 1):+.2f} %), "
            f"descriptors {early.descriptors} -> {late.descriptors}, threads {early.threads} -> {late.threads}, "
            f"compiled programs {early.programs} -> {late.programs}")


def main(argv: list[str]) -> int:
    """Reads the command line, runs both, compares; the value is the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which the run is killed")
    parser.add_argument("--keep", action="store_true", help="leave the folders for a look")
    options = parser.parse_args(argv)
    place = pathlib.Path(tempfile.mkdtemp(prefix="soak-"))
    cache = pathlib.Path(os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(place / "compiled")))
    whole, killed = place / "whole", place / "killed"
    whole.mkdir()
    killed.mkdir()
    begin = time.monotonic()
    held = undisturbed(whole, options.steps, cache)
    print(f"undisturbed: {options.steps} steps in {time.monotonic() - begin:.0f} s" +
          (f"; {growth(held)}" if len(held) > 8 else ""), flush=True)
    begin = time.monotonic()
    counts = disturbed(killed, options.steps, options.kills, random.Random(options.seed))
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    print(f"killed {sum(counts.values())} times ({kinds}) in {time.monotonic() - begin:.0f} s", flush=True)
    found = differences(whole, killed, options.steps)
    print("DIFFERENT: " + ", ".join(found) if found else "metrics, answers and parameters are the same, byte for byte")
    if not options.keep:
        shutil.rmtree(place)
    else:
        print(f"kept in {place}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
