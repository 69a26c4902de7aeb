"""Measures what sampling while training is worth: steps a minute in turn, and one and two steps apart.

    python scripts/bench_overlap.py [--steps=12] [--wait=0.5] [--turns=3]
    JAX_NUM_CPU_DEVICES=2 python scripts/bench_overlap.py --wait=0      # the sampler on a device of its own

--wait is how many seconds the engine waits for each rollout beside what it computes here, as one does that asks a
server; with 0 sampler and trainer share this machine's cores, so that little can be gained on a CPU. The settings take
turns, so that a busy machine slows all of them.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import jax

from experiments.configs import countdown
from rl_reasoning.config import Experiment
from rl_reasoning.edge import read_experiment
from rl_reasoning.loop.keeper import Keeper
from rl_reasoning.loop.reinforce import Trainer, make_trainer, reinforce
from rl_reasoning.loop.setup import build
from rl_reasoning.loop.stops import Stops
from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.reporting.writers import MetricWriter
from rl_reasoning.sampling.engine import JaxEngine
from rl_reasoning.types import Completions

STALE = (0, 1, 2)
WARM = 3  # steps that are not timed: programs are compiled, and the sampler gets ahead


class Waiting(JaxEngine):
    """The engine here, which is also waited for."""

    wait = 0.0

    def generate(self, *arguments: Any, **options: Any) -> Completions:
        """See `Engine.generate`."""
        time.sleep(self.wait)
        return super().generate(*arguments, **options)


def experiment(stale: int, steps: int) -> Experiment:
    """The default task and policy, from random weights: what is learnt does not matter here."""
    config = countdown.get_config()
    config.warm_start.steps = config.warm_start.refine_steps = 0
    config.rl.steps, config.rl.stale, config.rl.reference = steps + WARM, stale, False
    config.mesh.sampler = int(jax.device_count() > 1)
    return read_experiment(config)


def make(stale: int, steps: int, wait: float) -> Trainer:
    """What runs with one setting, compiled at its first step."""
    lab = build(experiment(stale, steps))
    policy = lab.policy
    engine = Waiting(policy.config, policy.tokenizer.eos_id, policy.tokenizer, layout=policy.sampler or policy.layout)
    engine.wait = wait
    return make_trainer(dataclasses.replace(lab, policy=dataclasses.replace(policy, engine=engine)),
                        lab.experiment.algorithm)


def measured(trainer: Trainer, path: pathlib.Path) -> dict[str, float]:
    """Steps a minute, processor seconds a step, and seconds a step that each side waited for the other."""
    ends: list[tuple[float, float]] = []

    def look(*_: Any) -> None:
        ends.append((time.perf_counter(), sum(os.times()[:2])))

    folder = RunFolder(path)
    with MetricWriter(folder) as writer, Stops(30) as stops, \
            Keeper(folder, trainer.lab.experiment.checkpoint, {}, trainer.batches) as keeper:
        reinforce(trainer, trainer.lab.first(), writer, keeper, stops, look)
    timed, lines = ends[WARM - 1:], folder.timings()[WARM:]
    wall, processor = (last - first for first, last in zip(timed[0], timed[-1], strict=True))
    waits = {name: statistics.mean(line.get(f"time/{name}", 0.0) for line in lines)
             for name in ("waiting", "sampler_waiting")}
    return {"steps_per_minute": 60 * (len(timed) - 1) / wall, "cpu_seconds": processor / (len(timed) - 1), **waits}


def main(arguments: list[str]) -> int:
    """Prints a line a setting, and all of it as one line of JSON at the end; the value is the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="that are timed of each run")
    parser.add_argument("--wait", type=float, default=0.5, help="seconds that a rollout is waited for")
    parser.add_argument("--turns", type=int, default=3, help="runs of each setting")
    options = parser.parse_args(arguments)
    if options.steps < 2 or options.turns < 1 or options.wait < 0:
        parser.error("--steps must be 2 or more, --turns 1 or more, --wait 0 or more")
    found: dict[int, list[dict[str, float]]] = {stale: [] for stale in STALE}
    trainers = {stale: make(stale, options.steps, options.wait) for stale in STALE}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(options.turns):
            for stale in STALE:
                path = pathlib.Path(folder) / f"{turn}-{stale}"
                RunFolder(path).write_config(trainers[stale].lab.experiment, sys.argv)
                found[stale].append(measured(trainers[stale], path))
    middle = {stale: {name: statistics.median(run[name] for run in runs) for name in runs[0]}
              for stale, runs in found.items()}
    for stale, runs in found.items():
        speeds = [run["steps_per_minute"] for run in runs]
        print(f"rl.stale={stale}: {middle[stale]['steps_per_minute']:.1f} steps a minute ({min(speeds):.1f} to "
              f"{max(speeds):.1f}), {middle[stale]['cpu_seconds']:.2f} CPU-s a step; the trainer waited "
              f"{middle[stale]['waiting']:.2f} s a step and the sampler {middle[stale]['sampler_waiting']:.2f}")
    print(json.dumps({"devices": jax.device_count(), "wait": options.wait, "stale": middle}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
