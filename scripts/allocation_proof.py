"""Steps and generated tokens that methods need to reach one Pass@1: GVM, and refilling, against answers shared alike.

    python scripts/allocation_proof.py --out=proof                    # countdown, five seeds: hours on two cores
    python scripts/allocation_proof.py --out=proof --tasks gym        # reasoning-gym's sums, a smaller policy: minutes
    python scripts/allocation_proof.py --out=quick --quick            # toy size, two seeds: minutes, no evidence

All methods of a seed start from one base and are evaluated on the same problems. The target is a fixed gain of Pass@1
above the base; where it is crossed is read off a straight line between two evaluations. Every run that ends adds a line
to results.jsonl in the folder, and a second call goes on with the runs that have none. The table can be printed at any
time: --report runs nothing.

A ratio is baseline / method, so above 1 is a gain: the geometric mean over the seeds in which both arrive, with a 95 %
t interval of the logarithm. "reached" counts the seeds; those that never arrive are left out of the ratio, which
flatters whoever arrives less often.
"""

import argparse
import dataclasses
import importlib
import itertools
import json
import math
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import numpy as np
from scipy import stats

from rl_reasoning.config import Experiment, Optimizer
from rl_reasoning.edge import read_experiment
from rl_reasoning.loop import run as start

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "raft_plus_plus": ("raft_plus_plus", {}),
    "gvm_raft_plus_plus": ("gvm_raft_plus_plus", {}),
    "gvm_raft_plus_plus, first answers kept": ("gvm_raft_plus_plus", {"plan_draws": 4, "plan_keep": True}),
    "grpo": ("grpo", {}),
    "gvm_grpo": ("gvm_grpo", {}),
    "gvm_grpo, first answers kept": ("gvm_grpo", {"plan_draws": 4, "plan_keep": True}),
    "grpo, refill": ("grpo", {"plan_refill": 10}),
}
PAIRS = [(method, "grpo" if "grpo" in method else "raft_plus_plus")
         for method in METHODS if method not in ("grpo", "raft_plus_plus")]


class Setting(NamedTuple):
    """A task of the comparison: its config file, the gain of Pass@1 to be reached, and what is changed."""

    config: str
    gain: float
    changes: Mapping[str, Mapping[str, Any]]


TASKS = {
    "countdown": Setting("countdown", 0.06, {
        "rl": {"steps": 70}, "evaluation": {"problems": 128, "samples": 64, "every": 5}}),
    "gym": Setting("gym:scratch", 0.1, {"evaluation": {"every": 4}}),
}
QUICK = Setting("countdown:smoke", 0.02, {
    "rl": {"steps": 24, "prompts": 16, "samples": 8, "optimizer": Optimizer(learning_rate=5e-4, warmup=0)},
    "evaluation": {"problems": 24, "samples": 64, "every": 3}})


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of runs and results")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["countdown"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=5, help="default 5")
    parser.add_argument("--quick", action="store_true", help="toy size and two seeds")
    parser.add_argument("--report", action="store_true", help="print the table of what is there")
    options = parser.parse_args(arguments)
    settings = {"quick": QUICK} if options.quick else {task: TASKS[task] for task in options.tasks}
    seeds = range(2 if options.quick else options.seeds)
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "results.jsonl"
    if not options.report:
        for task, seed, method in itertools.product(settings, seeds, options.methods):
            if not any(line["run"] == [task, seed, method] for line in lines_of(results)):
                record = {"run": [task, seed, method], "points": run(settings[task], options.out / task, seed, method)}
                whole = results.with_suffix(".part")
                whole.write_text("".join(json.dumps(line) + "\n" for line in [*lines_of(results), record]))
                whole.replace(results)
    for task, setting in settings.items():
        print("\n".join(table(task, setting.gain, lines_of(results))))
    return 0


def lines_of(path: pathlib.Path) -> list[dict[str, Any]]:
    """The runs that have ended; a last line that was cut off is none."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def experiment_of(setting: Setting, workdir: pathlib.Path, seed: int, method: str) -> Experiment:
    """The settings of one run."""
    name, _, preset = setting.config.partition(":")
    algorithm, objective = METHODS[method]
    experiment = read_experiment(importlib.import_module(f"experiments.configs.{name}").get_config(preset))
    changed = {part: dataclasses.replace(getattr(experiment, part), **values)
               for part, values in setting.changes.items()}
    label = f"{experiment.name}-{method.replace(', ', '-').replace(' ', '-')}"  # one stopped goes on in its folder
    return dataclasses.replace(experiment, **changed, name=label, algorithm=algorithm, objective=objective, seed=seed,
                               workdir=str(workdir))


def run(setting: Setting, workdir: pathlib.Path, seed: int, method: str) -> list[list[float]]:
    """Trains one method and returns [step, tokens generated so far, Pass@1] at each evaluation, the base's first."""
    [folder] = start(experiment_of(setting, workdir, seed, method))
    spent = np.cumsum([0.0, *(line["tokens/generated"] for line in folder.metrics("rl"))])
    return [[record["step"], spent[record["step"]], record["pass_at_k"]["1"][0]] for record in folder.evaluations()]


def crossing(points: Sequence[Sequence[float]], gain: float) -> tuple[float, float] | None:
    """The step and the tokens at which Pass@1 is first `gain` above the first point's; None where it never is."""
    target = points[0][2] + gain
    for before, after in itertools.pairwise(points):
        if after[2] >= target:
            share = (target - before[2]) / (after[2] - before[2])
            return tuple(a + share * (b - a) for a, b in zip(before[:2], after[:2], strict=True))
    return None


def ratio(pairs: Sequence[tuple[float, float]]) -> str:
    """Geometric mean of baseline / method with its interval."""
    logs = np.log([baseline / method for baseline, method in pairs])
    if len(logs) < 2:
        return f"{math.exp(logs[0]):.2f}" if len(logs) else "-"
    half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs))
    low, middle, high = np.exp([logs.mean() - half, logs.mean(), logs.mean() + half])
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def table(task: str, gain: float, results: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line a method: seeds, how many reached the target, steps and tokens to it, and the ratios to its baseline."""
    found = {(seed, method): crossing(line["points"], gain) for line in results
             for name, seed, method in [line["run"]] if name == task}
    if not found:
        return [f"{task}: no run has ended"]
    rows = [f"{task}: Pass@1 {100 * gain:.0f} points above the base", f"{'method':40} reached   steps     tokens   "
            "ratio of steps       ratio of tokens"]
    baselines = dict(PAIRS)
    for method in METHODS:
        runs = {seed: at for (seed, name), at in found.items() if name == method}
        arrived = [at for at in runs.values() if at]
        if not runs:
            continue
        steps, tokens = np.mean(arrived, axis=0) if arrived else (math.nan, math.nan)
        row = f"{method:40} {len(arrived)} of {len(runs)}  {steps:6.1f} {tokens:10.0f}"
        if method in baselines:
            both = [(found[seed, baselines[method]], at) for seed, at in runs.items()
                    if at and found.get((seed, baselines[method]))]
            row += "".join(f"   {ratio([(one[i], other[i]) for one, other in both]):18}" for i in (0, 1))
        rows.append(row.rstrip())
    return rows


if __name__ == "__main__":
    sys.exit(main())
