"""What a run does, by its mode, and how it ends."""

import sys

import jax

from rl_reasoning.config import Experiment
from rl_reasoning.loop.describe import describe_model
from rl_reasoning.loop.evaluating import evaluate_policy
from rl_reasoning.loop.experiment import compare, train
from rl_reasoning.loop.folders import opened, work_folder
from rl_reasoning.loop.latent_search import search_policy
from rl_reasoning.loop.setup import build
from rl_reasoning.loop.stops import Stopped, Stops
from rl_reasoning.loop.watch import TrainingFailed
from rl_reasoning.reporting.console import say
from rl_reasoning.reporting.report import write_report
from rl_reasoning.reporting.results import base_of, collect, final_of
from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.reporting.table import breakdown_table, detail_table, evaluation_table, summary_sentence
from rl_reasoning.rollouts import NothingScored
from rl_reasoning.tasks.pool import PoolError


def run_experiment(experiment: Experiment) -> int:
    """Runs what the settings say and returns the exit code.

    0 says that all steps that were asked for are done; 1 that training could not go on; 75 that SIGTERM and 130 that
    Ctrl-C ended the run, which the same call then goes on with.

    Raises:
      ConfigError: settings that cannot be run.
    """
    try:
        run(experiment)
        return 0
    except Stopped as stop:
        say(f"{stop}; the same command goes on from here")
        return stop.code
    except (TrainingFailed, NothingScored, PoolError, OSError) as error:
        say(f"stopped: {error}")
        return 1


def run(experiment: Experiment) -> list[RunFolder]:
    """Runs what the settings say and returns the folders with what came of it; for notebooks.

    Raises:
      ConfigError: settings that cannot be run.
      TrainingFailed, NothingScored, PoolError, OSError: it could not go on.
      Stopped: SIGTERM, or Ctrl-C or a notebook's stop button; the same call goes on from there.
    """
    keep_compiled_programs(experiment)
    if experiment.mode == "evaluate":
        return [_evaluate_only(experiment)]
    if experiment.mode == "latent_search":
        return [search_policy(experiment)]
    with Stops(experiment.checkpoint.seconds) as stops:
        return _train_all(experiment, stops)


def _train_all(experiment: Experiment, stops: Stops) -> list[RunFolder]:
    lab = build(experiment)
    for line in lab.data.lines if lab.data else ():
        say(line)
    try:
        for line in describe_model(lab.policy.config, experiment.rl.optimizer):
            say(line)
        with opened(experiment, _name(experiment)) as path:
            folders = compare(lab, path, stops) if experiment.mode == "compare" else [train(lab, path, stops)]
            _report(experiment, folders)
    finally:
        lab.verifier.close()
    return folders


def _name(experiment: Experiment) -> str:
    """Of the run's folder."""
    alone = "" if experiment.mode == "compare" else f"-{experiment.algorithm}"
    return f"{experiment.name}{alone}-seed{experiment.seed}"


def _report(experiment: Experiment, folders: list[RunFolder]) -> None:
    """The page, and its tables on standard output."""
    report = folders[-1].report_path if len(folders) == 1 else folders[0].path.parent / "report.html"
    write_report(report, folders, experiment.name)
    results = collect(folders)
    say(evaluation_table(results), file=sys.stdout)
    if breakdown := breakdown_table(results):
        say(breakdown, file=sys.stdout)
    for result in final_of(results):
        say(summary_sentence(base_of(results), result), file=sys.stdout)
    say(f"report: {report}", file=sys.stdout)


def _evaluate_only(experiment: Experiment) -> RunFolder:
    """Answers of a policy that is there, and their tables."""
    folder = evaluate_policy(experiment)
    write_report(folder.report_path, [folder], experiment.name)
    results = collect([folder])
    for table in (evaluation_table(results), detail_table(results), breakdown_table(results)):
        if table:
            say(table, file=sys.stdout)
    say(f"report: {folder.report_path}", file=sys.stdout)
    return folder


def keep_compiled_programs(experiment: Experiment) -> None:
    """Compiled programs are kept in the work folder, for the next run, unless a place was chosen already.

    Raises ConfigError when there can be no work folder.
    """
    folder = work_folder(experiment)
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]  # jax makes it as it starts
        jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
