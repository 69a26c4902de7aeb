"""Says whether this machine is fit to run experiments, and what is wrong with it if not.

    python -m rl_reasoning.doctor [WORKDIR]

Looks at library versions, devices, the mesh over them, worker processes, the sandbox for programs, free memory and
disk, locks and durable files in WORKDIR (runs by default), the compilation cache, and does one training step that is
saved and read back. Exit code 0: fit; 1: not fit; warnings alone leave it fit.
"""

import argparse
import dataclasses
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from rl_reasoning.config import Countdown, Experiment, Model, Task, Verifier, WarmStart
from rl_reasoning.loop import reinforce, state
from rl_reasoning.loop.setup import build
from rl_reasoning.reporting.claims import claim
from rl_reasoning.reporting.console import say
from rl_reasoning.reporting.run_folder import PACKAGES, installed_versions
from rl_reasoning.tasks.code.sandbox import SandboxError, reach
from rl_reasoning.tasks.countdown import Countdown as CountdownTask
from rl_reasoning.tasks.pool import VerifierPool
from rl_reasoning.training import checkpoints

MEMORY_LOW, DISK_LOW, PYTHON = 2**30, 2**30, (3, 11)


class Unfit(RuntimeError):
    """Something that no experiment can do without is missing; the message says how to get it."""


@dataclasses.dataclass(frozen=True)
class Doubtful:
    """What works, and will not be enough for everything."""

    text: str


Check = Callable[[Path], str | Doubtful]


def examine(workdir: Path, checks: dict[str, Check]) -> Iterator[tuple[str, str, str]]:
    """Does the checks one after another; gives (mark, name, what was found), where the mark is ok, warning or UNFIT."""
    for name, check in checks.items():
        try:
            found = check(workdir)
        except Exception as error:  # whatever a broken machine raises is what is to be reported
            yield "UNFIT", name, f"{error}" if isinstance(error, Unfit) else f"{type(error).__name__}: {error}"
        else:
            yield ("warning", name, found.text) if isinstance(found, Doubtful) else ("ok", name, found)


def versions(_workdir: Path) -> str:
    """The interpreter and the libraries that everything needs."""
    if sys.version_info < PYTHON:
        raise Unfit(f"Python {sys.version.split()[0]}; {'.'.join(map(str, PYTHON))} or newer is needed")
    found = installed_versions()
    missing = [name for name, version in found.items() if version == "not installed" and name != "rl_reasoning"]
    if missing:
        raise Unfit(f"{', '.join(missing)} not installed: pip install -e .")
    return ", ".join(f"{name} {found[name]}" for name in ("python", *PACKAGES))


def devices(_workdir: Path) -> str:
    """What jax computes on."""
    found = jax.devices()
    limits = [(device.memory_stats() or {}).get("bytes_limit", 0) for device in found]
    memory = f", {min(limits) / 1e9:.1f} GB each" if all(limits) else ""
    return (f"{len(found)} of kind {found[0].device_kind}{memory}; {jax.process_count()} process(es), "
            f"{os.cpu_count()} processor cores")


def mesh(_workdir: Path) -> str:
    """Whether all devices can add something up together."""
    count = jax.device_count()
    spread = jax.sharding.NamedSharding(jax.make_mesh((count,), ("data",)), jax.sharding.PartitionSpec("data"))
    numbers = jax.make_array_from_callback((count,), spread, lambda index: np.arange(count, dtype=np.float32)[index])
    total = float(jnp.sum(numbers))
    if total != count * (count - 1) / 2:
        raise Unfit(f"a sum over {count} devices gave {total} instead of {count * (count - 1) / 2}")
    return f"one axis over {count} device(s); a sum over them is right"


def workers(_workdir: Path) -> str:
    """Whether answers can be scored in processes of their own, which can be killed."""
    task = CountdownTask(Countdown())
    pool = VerifierPool(task, Verifier(workers=1))
    try:
        start = time.perf_counter()
        [verdict] = pool.verify_all([(task.train_problems()[0], "1")])
        if not verdict.scorable:
            raise Unfit(f"an answer could not be scored: {verdict.reason}")
        return f"an answer was scored in a worker process, in {1000 * (time.perf_counter() - start):.0f} ms"
    finally:
        pool.close()


def sandbox(_workdir: Path) -> str | Doubtful:
    """How well a program that a policy writes can be locked in."""
    try:
        level = reach("landlock")
    except SandboxError as error:
        return Doubtful(f"none ({error}); programs that a policy writes are only run with task.code.isolation=none")
    return f"isolation level {level}" if level == "namespace" else Doubtful(f"isolation level {level}: give "
                                                                            "task.code.isolation=landlock to run code")


def memory(_workdir: Path) -> str | Doubtful:
    """What this machine has left for processes."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if Path("/proc/meminfo").exists():  # counts what the system gives back when it is asked
        facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(facts["MemAvailable"].split()[0]) * 1024
    text = f"{free / 1e9:.1f} GB free"
    return Doubtful(f"{text}; the default experiment needs about 1 GB") if free < MEMORY_LOW else text


def disk(workdir: Path) -> str | Doubtful:
    """What is left where runs are written, and whether folders there can be claimed and written durably."""
    with tempfile.TemporaryDirectory(dir=workdir) as place, claim(Path(place, "claim")):
        file = Path(place, "file")
        with file.open("wb") as handle:
            handle.write(b"x" * 2**20)
            os.fsync(handle.fileno())
        file.rename(Path(place, "renamed"))
    free = shutil.disk_usage(workdir).free
    text = f"{free / 1e9:.1f} GB free in {workdir}; locks, renaming and flushing work"
    return Doubtful(f"{text}; checkpoints may not fit") if free < DISK_LOW else text


def cache(workdir: Path) -> str:
    """Where compiled programs are kept, so that a second start is quick."""
    chosen = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]  # jax makes it as it starts
    place = Path(chosen or workdir / "compiled")
    place.mkdir(parents=True, exist_ok=True)
    if not os.access(place, os.W_OK):
        raise Unfit(f"{place} cannot be written to: set JAX_COMPILATION_CACHE_DIR to a folder that can")
    return f"{len(list(place.iterdir()))} files in {place}{'' if chosen else ', the default'}"


def step(workdir: Path) -> str:
    """One training step of a tiny policy: sampled, scored, updated, saved, read back."""
    experiment = Experiment(
        name="doctor", task=Task(countdown=Countdown(numbers=2, limit=24, held_out=0.3)),
        model=Model(layers=1, width=16, heads=2, kv_heads=1, head_dim=8, mlp=16),
        warm_start=WarmStart(steps=0, refine_steps=0))
    experiment = dataclasses.replace(
        experiment, evaluation=dataclasses.replace(experiment.evaluation, problems=1),
        rl=dataclasses.replace(experiment.rl, steps=1, prompts=2, samples=2, minibatches=1, max_tokens=4))
    start, lab = time.perf_counter(), build(experiment)
    trainer, first = reinforce.make_trainer(lab, experiment.algorithm), lab.first()
    current, metrics, _ = reinforce.train_step(trainer, reinforce.begin(trainer, first), 1, first)
    wrong = [name for name, value in metrics.items() if not np.isfinite(value)]
    if wrong:
        raise Unfit(f"{', '.join(wrong)} not finite after one step")
    if metrics["mismatch/max"] > 1e-2:
        raise Unfit(f"sampler and trainer disagree by {metrics['mismatch/max']:.2g} nats a token on these devices")
    with tempfile.TemporaryDirectory(dir=workdir) as place:
        arrays = checkpoints.on_host(state.arrays(current))
        size = checkpoints.save(Path(place, "step_0001"), arrays)
        again = checkpoints.on_host(checkpoints.restore(Path(place, "step_0001"), state.arrays(current)))
    if any(again[name].tobytes() != array.tobytes() for name, array in arrays.items()):
        raise Unfit("a checkpoint was not read back as it was written")
    return f"one step, {size} bytes saved and read back, {time.perf_counter() - start:.1f} s with compilation"


CHECKS: dict[str, Check] = {
    "versions": versions, "devices": devices, "mesh": mesh, "workers": workers, "sandbox": sandbox, "memory": memory,
    "disk": disk, "compilation cache": cache, "smoke step": step}


def main(argv: list[str], checks: dict[str, Check] | None = None) -> int:
    """Reads the command line, examines, says what was found; the value is the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rl_reasoning.doctor", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path, nargs="?", default=Path("runs"), help="where runs are to be written")
    workdir = parser.parse_args(argv).workdir
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        say(f"UNFIT    disk: {error}", file=sys.stdout)
        return 1
    marks = []
    for mark, name, found in examine(workdir, CHECKS if checks is None else checks):
        marks.append(mark)
        say(f"{mark:<8} {name}: {found}", file=sys.stdout)
    say(f"this machine is {'not fit' if 'UNFIT' in marks else 'fit'}", file=sys.stdout)
    return int("UNFIT" in marks)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
