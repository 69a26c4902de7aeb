"""What a run does, by its mode, and how it ends."""

import os
import sys
import traceback

import jax

from rl_reasoning import options
from rl_reasoning.config import Experiment
from rl_reasoning.edge import ConfigError
from rl_reasoning.loop.describe import describe_model
from rl_reasoning.loop.evaluating import evaluate_policy
from rl_reasoning.loop.experiment import compare, train
from rl_reasoning.loop.folders import opened, work_folder
from rl_reasoning.loop.latent_search import search_policy
from rl_reasoning.loop.processes import agree, own_place
from rl_reasoning.loop.setup import build
from rl_reasoning.loop.stops import Stopped, Stops
from rl_reasoning.loop.watch import TrainingFailed
from rl_reasoning.parallel.hosts import ALONE, Alone, Different, Hosts, HostsError, join
from rl_reasoning.reporting.console import say
from rl_reasoning.reporting.report import write_report
from rl_reasoning.reporting.results import BASE, base_of, collect, final_of
from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.reporting.table import breakdown_table, detail_table, evaluation_table, summary_sentence
from rl_reasoning.rollouts import NothingScored
from rl_reasoning.tasks.pool import PoolError

# What may keep a run from going on; its sentence is all that one needs to know.
FAILURES = (TrainingFailed, NothingScored, PoolError, OSError, HostsError)


def run_experiment(experiment: Experiment) -> int:
    """Runs what the settings say and returns the exit code.

    0 says that all steps that were asked for are done; 1 that training could not go on; 75 that SIGTERM and 130 that
    Ctrl-C ended the run, which the same call then goes on with.

    Raises:
      ConfigError: settings that cannot be run.
    """
    try:
        hosts = join(experiment.distributed)
    except (RuntimeError, ValueError) as error:
        say(f"stopped: config.distributed: {error}")
        return 1
    _check_algorithms(experiment)
    if isinstance(hosts, Hosts):
        return _one_of_several(experiment, hosts)
    try:
        return _to_its_end(experiment, hosts)
    except FAILURES as error:
        say(f"stopped: {error}")
        return 1


def _check_algorithms(experiment: Experiment) -> None:
    """Raises ConfigError when an algorithm's name or options cannot be, or do not go with the other settings."""
    trained = {"train": [experiment.algorithm], "compare": [name for name in experiment.compare if name != BASE]}
    for name in trained.get(experiment.mode, []):
        try:
            options.check(name, options.of_run(name, experiment), experiment)
        except ValueError as error:
            raise ConfigError(str(error)) from None


def _to_its_end(experiment: Experiment, hosts: Hosts | Alone) -> int:
    """Runs; a stop is a code and no error."""
    try:
        run(experiment, hosts)
        return 0
    except Stopped as stop:
        say(f"{stop}; the same command goes on from here")
        return stop.code


def _one_of_several(experiment: Experiment, hosts: Hosts) -> int:
    """The exit code of this process of several. What fails in one is told to the others, whose code is not 0 then.

    A process that has failed does not return: at its end jax would wait for the others at a barrier of its own.
    """
    try:
        with own_place(experiment, hosts) as own, hosts.announced("the run"):
            keep_compiled_programs(experiment)  # all look in one place for what one of them has compiled
            code = _to_its_end(own, hosts)
        hosts.meet("end", 0, code)
        hosts.rest()
        return code
    except (ConfigError, Different) as error:
        code, text = 2, f"error: {error}"
    except FAILURES as error:
        code, text = 1, f"stopped: {error}"
    except Exception as error:  # whatever it is must be said, and must not leave the others waiting
        code, text = 1, "\n".join([*traceback.format_exception(error), *hosts.failures()])
    say(f"process {hosts.index}: {text}")
    hosts.leave()
    os._exit(code)


def run(experiment: Experiment, hosts: Hosts | Alone = ALONE) -> list[RunFolder]:
    """Runs what the settings say and returns the folders with what came of it; for notebooks.

    Args: hosts: the processes that do it together.
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
    with Stops(experiment.checkpoint.seconds, hosts=hosts) as stops:
        return _train_all(experiment, stops, hosts)


def _train_all(experiment: Experiment, stops: Stops, hosts: Hosts | Alone) -> list[RunFolder]:
    lab = build(experiment, hosts)
    agree(lab)
    for line in lab.data.lines if lab.data else ():
        say(line)
    try:
        for line in describe_model(lab.policy.config, experiment.rl.optimizer):
            say(line)
        with opened(experiment, _name(experiment)) as path:
            folders = compare(lab, path, stops) if experiment.mode == "compare" else [train(lab, path, stops)]
            if hosts.is_first:
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
