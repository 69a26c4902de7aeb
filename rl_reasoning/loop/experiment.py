"""A whole experiment: the base, one algorithm or several from it, and what people look at afterwards."""

import dataclasses
import functools
import sys
from pathlib import Path

import jax

from rl_reasoning import keys
from rl_reasoning.config import Experiment
from rl_reasoning.evaluation.evaluate import evaluate
from rl_reasoning.loop.describe import describe_model
from rl_reasoning.loop.evaluating import evaluate_policy
from rl_reasoning.loop.fingerprints import fingerprints
from rl_reasoning.loop.folders import is_finished, opened, status
from rl_reasoning.loop.keeper import Keeper
from rl_reasoning.loop.reinforce import alarm, make_trainer, reinforce
from rl_reasoning.loop.setup import Lab, build
from rl_reasoning.loop.stops import Stopped, Stops
from rl_reasoning.loop.warm_start import base
from rl_reasoning.loop.watch import TrainingFailed
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.reporting.console import Progress, say
from rl_reasoning.reporting.report import write_report
from rl_reasoning.reporting.results import base_of, collect, final_of
from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.reporting.table import breakdown_table, detail_table, evaluation_table, summary_sentence
from rl_reasoning.reporting.writers import MetricWriter
from rl_reasoning.rollouts import NothingScored
from rl_reasoning.tasks.pool import PoolError

BASE = "base"
MOST_DISAGREEMENT = 0.01


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
    """Compiled programs are kept in the work folder, for the next run, unless a place was chosen already."""
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(Path(experiment.workdir).absolute() / "compiled"))


def train(lab: Lab, path: Path, stops: Stops) -> RunFolder:
    """One algorithm from the base, with the base's evaluation in the same folder, `path`."""
    folder = _described(lab, path)
    parameters = base(lab)
    _record(lab, folder, parameters, 0)
    _run_algorithm(lab, folder, parameters, stops)
    return folder


def compare(lab: Lab, parent: Path, stops: Stops) -> list[RunFolder]:
    """Several algorithms from one base, a folder each below `parent`; the base's evaluation has a folder too."""
    experiment, parameters, folders = lab.experiment, base(lab), []
    for name in experiment.compare:
        alone = dataclasses.replace(lab, experiment=dataclasses.replace(
            experiment, algorithm=name, mode="train", compare=()))
        folders.append(_described(alone, parent / name))
        if is_finished(parent / name):
            say(f"{name}: finished already")
            continue
        with status(parent / name, alone.experiment):
            if name == BASE:
                _record(alone, folders[-1], parameters, 0)
            else:
                _run_algorithm(alone, folders[-1], parameters, stops)
    return folders


def _described(lab: Lab, path: Path) -> RunFolder:
    """The run folder with its settings and what was found in the problems' files."""
    folder = RunFolder(path)
    if lab.experiment.resume_changed:
        (path / "config.json").unlink(missing_ok=True)  # changes.jsonl says what it was before
    if not (path / "config.json").exists():
        folder.write_config(lab.experiment, sys.argv)
    _keep_data(lab, folder)
    return folder


def _keep_data(lab: Lab, folder: RunFolder) -> None:
    """What was found in the problems' files goes to the run folder, too."""
    if lab.data:
        folder.write_data(lab.data.record)


def _run_algorithm(lab: Lab, folder: RunFolder, parameters: Parameters, stops: Stops) -> None:
    """Trains, evaluates along the way and at the end, and keeps what it takes to go on after any stop."""
    trainer = make_trainer(lab, lab.experiment.algorithm)
    prints = fingerprints(lab, parameters)
    with MetricWriter(folder) as writer, Keeper(folder, lab.experiment.checkpoint, prints, trainer.batches) as keeper:
        reinforce(trainer, parameters, writer, keeper, stops, functools.partial(_look, lab, folder, parameters))


def _look(lab: Lab, folder: RunFolder, first: Parameters, step: int, parameters: Parameters,
          progress: Progress) -> None:
    every, last = lab.experiment.evaluation.every, lab.experiment.rl.steps
    if step == last or (every and step % every == 0):
        _record(lab, folder, parameters, step, first)


def _record(lab: Lab, folder: RunFolder, parameters: Parameters, step: int, first: Parameters | None = None) -> None:
    """Evaluates the parameters and writes every answer and the summary to the folder, unless they are there.

    Args: first: the policy that training started from, with which tokens are compared.
    """
    experiment = lab.experiment
    label = BASE if step == 0 else f"step_{step:04d}"
    if any(record["label"] == label for record in folder.evaluations()):
        return
    # The same key at every step: policies are compared on the same draws, which takes noise out of the difference.
    key = keys.derive(experiment.seed, keys.Role.EVALUATION, 0)
    result = evaluate(lab.policy, parameters, lab.verifier, lab.held_out, experiment.evaluation, key,
                      experiment.seed, reference=first)
    alarm((row for part in result.rollouts for row in part.verdicts), f"evaluation {label}")
    summary = {"label": label, "algorithm": BASE if step == 0 else experiment.algorithm, "seed": experiment.seed,
               "step": step, **result.summary}
    folder.write_evaluation(summary, result.samples())
    if summary.get("grader/disagreement", 0) > MOST_DISAGREEMENT:
        say(f"warning: two graders disagree on {100 * summary['grader/disagreement']:.1f} % of the "
            f"{summary['grader/second']:.0f} answers that both judged; see `second` in evaluations/{label}.jsonl")
    values = summary["pass_at_k"]
    largest = str(experiment.evaluation.samples)
    if largest in values:
        say(f"{label}: Pass@1 {100 * values['1'][0]:.1f}, Pass@{largest} {100 * values[largest][0]:.1f}, "
            f"entropy {summary['entropy']:.3f}, length {summary['length']:.1f}")
