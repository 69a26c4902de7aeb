"""Settings that the reproductions share, and their command line."""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from rl_reasoning import edge
from rl_reasoning.config import Experiment
from rl_reasoning.edge import ConfigError
from rl_reasoning.loop.study import BASE, Study, StudyStopped, run_study

TASKS = ("countdown", "path")


def recipe(task: str, quick: bool) -> Experiment:
    """The settings that all runs share; fixed before the seeds that are reported were run."""
    config = edge.to_config_dict(Experiment())
    config.mode = "compare"
    config.compare = (BASE,)
    config.task.kind = task
    if task == "countdown":
        # A larger space than the default's, half its warm start, and the paper's own sampling at evaluation leave room
        # at Pass@256.
        config.task.countdown.high = 30
        config.task.countdown.limit = 100
        config.warm_start.steps = 200
        config.warm_start.refine_steps = 150
    else:
        # ALPINE's graph, the base stopped early enough to leave room, and a rate at which so small a policy moves.
        config.model.layers = 1
        config.model.width = 120
        config.model.heads = config.model.kv_heads = 1
        config.model.head_dim = 120
        config.warm_start.steps = 200
        config.warm_start.refine_steps = 0
        config.warm_start.wrong = 0.0
        config.rl.max_tokens = config.evaluation.sampling.max_tokens = 24
    config.rl.steps = 70
    config.rl.optimizer.learning_rate = 2e-5 if task == "countdown" else 6e-5
    config.evaluation.every = 14
    config.evaluation.problems = 128
    config.evaluation.samples = 256
    config.evaluation.sampling.temperature = 0.6
    config.evaluation.sampling.top_p = 0.95
    if quick:
        make_quick(config)
    return edge.read_experiment(config)


def make_quick(config: ConfigDict) -> None:
    """Toy size."""
    config.task.countdown.numbers = 2
    config.task.countdown.limit = 60
    config.task.path.nodes = 40
    config.model.width = 48
    config.model.heads = config.model.kv_heads = 1
    config.model.head_dim = 48
    config.model.mlp = 96
    config.warm_start.steps = 300
    config.warm_start.refine_steps = 0
    config.warm_start.batch = 128
    config.warm_start.optimizer.learning_rate = 5e-3
    config.rl.steps = 12
    config.rl.prompts = 16
    config.rl.optimizer.learning_rate = 2e-4
    config.evaluation.every = 4
    config.evaluation.problems = 24
    config.evaluation.samples = 32


def command_line(arguments: Sequence[str], doc: str, study: Study) -> int:
    """Runs a study as its script's options say; the value is the exit code."""
    chosen = options(arguments, doc, study.seeds, TASKS)
    out = chosen.workdir / (f"{study.name}-{chosen.task}" + ("-quick" if chosen.quick else ""))
    shared = dataclasses.replace(recipe(chosen.task, chosen.quick), workdir=str(out))
    return finish(lambda: run_study(study, shared, chosen.seeds))


def options(arguments: Sequence[str], doc: str, seeds: int, tasks: Sequence[str]) -> argparse.Namespace:
    """task (where there are any), quick, seeds and workdir. Args: doc: the script's. seeds: how many by default."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if tasks:
        parser.add_argument("--task", choices=tasks, default=tasks[0])
    parser.add_argument("--quick", action="store_true", help="every stage at toy size, with two seeds")
    parser.add_argument("--seeds", type=int, default=0, help=f"how many; {seeds}, or 2 with --quick")
    parser.add_argument("--workdir", type=Path, default=Path("runs"), help="default %(default)s")
    chosen = parser.parse_args(arguments)
    chosen.seeds = chosen.seeds or (2 if chosen.quick else seeds)
    return chosen


def finish(run: Callable[[], str]) -> int:
    """Runs, and prints what comes of it; the value is the exit code."""
    try:
        print(run())
    except StudyStopped as stop:
        print(stop, file=sys.stderr)
        return stop.code
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
