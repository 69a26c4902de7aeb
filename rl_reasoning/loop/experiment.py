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
from rl_reasoning.loop.reinforce import TrainingFailed, alarm, make_trainer, reinforce
from rl_reasoning.loop.setup import Lab, build
from rl_reasoning.loop.warm_start import base
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.reporting.console import Progress, say
from rl_reasoning.reporting.report import write_report
from rl_reasoning.reporting.results import base_of, collect, final_of
from rl_reasoning.reporting.run_folder import RunFolder, new_folder
from rl_reasoning.reporting.table import breakdown_table, detail_table, evaluation_table, summary_sentence
from rl_reasoning.reporting.writers import MetricWriter
from rl_reasoning.rollouts import NothingScored
from rl_reasoning.tasks.pool import PoolError
from rl_reasoning.training import checkpoints

BASE = "base"
MOST_DISAGREEMENT = 0.01


def run_experiment(experiment: Experiment) -> int:
    """Runs what the settings say and returns the exit code: 0, or 1 when training could not go on.

    Raises:
      ConfigError: settings that cannot be run.
    """
    keep_compiled_programs(experiment)
    if experiment.mode == "evaluate":
        return _evaluate_only(experiment)
    lab = build(experiment)
    for line in lab.data.lines if lab.data else ():
        say(line)
    try:
        for line in describe_model(lab.policy.config, experiment.rl.optimizer):
            say(line)
        folders = compare(lab) if experiment.mode == "compare" else [train(lab)]
    except (TrainingFailed, NothingScored, PoolError) as error:
        say(f"stopped: {error}")
        return 1
    finally:
        lab.verifier.close()
    report = folders[-1].report_path if len(folders) == 1 else folders[0].path.parent / "report.html"
    write_report(report, folders, experiment.name)
    results = collect(folders)
    say(evaluation_table(results), file=sys.stdout)
    if breakdown := breakdown_table(results):
        say(breakdown, file=sys.stdout)
    for result in final_of(results):
        say(summary_sentence(base_of(results), result), file=sys.stdout)
    say(f"report: {report}", file=sys.stdout)
    return 0


def _evaluate_only(experiment: Experiment) -> int:
    """Answers of a policy that is there, and their tables."""
    try:
        folder = evaluate_policy(experiment)
    except (NothingScored, PoolError, BlockingIOError) as error:
        say(f"stopped: {error}")
        return 1
    write_report(folder.report_path, [folder], experiment.name)
    results = collect([folder])
    for table in (evaluation_table(results), detail_table(results), breakdown_table(results)):
        if table:
            say(table, file=sys.stdout)
    say(f"report: {folder.report_path}", file=sys.stdout)
    return 0


def keep_compiled_programs(experiment: Experiment) -> None:
    """Compiled programs are kept in the work folder, for the next run, unless a place was chosen already."""
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(Path(experiment.workdir).absolute() / "compiled"))


def train(lab: Lab) -> RunFolder:
    """One algorithm from the base, with the base's evaluation in the same folder."""
    experiment = lab.experiment
    folder = RunFolder.create(experiment.workdir, f"{experiment.name}-{experiment.algorithm}-seed{experiment.seed}")
    say(f"run folder: {folder.path}")
    folder.write_config(experiment, sys.argv)
    _keep_data(lab, folder)
    parameters = base(lab)
    _record(lab, folder, parameters, 0)
    _run_algorithm(lab, folder, parameters)
    return folder


def compare(lab: Lab) -> list[RunFolder]:
    """Several algorithms from one base, a folder each; the base's evaluation has a folder too."""
    experiment = lab.experiment
    parent = new_folder(experiment.workdir, f"{experiment.name}-seed{experiment.seed}")
    say(f"run folder: {parent}")
    parameters, folders = base(lab), []
    for name in experiment.compare:
        alone = dataclasses.replace(experiment, algorithm=name, mode="train", compare=())
        folders.append(RunFolder.create(parent, name))
        folders[-1].write_config(alone, sys.argv)
        _keep_data(lab, folders[-1])
        if name == BASE:
            _record(lab, folders[-1], parameters, 0)
        else:
            _run_algorithm(dataclasses.replace(lab, experiment=alone), folders[-1], parameters)
    return folders


def _keep_data(lab: Lab, folder: RunFolder) -> None:
    """What was found in the problems' files goes to the run folder, too."""
    if lab.data:
        folder.write_data(lab.data.record)


def _run_algorithm(lab: Lab, folder: RunFolder, parameters: Parameters) -> None:
    """Trains, evaluates along the way and at the end, and keeps the last parameters."""
    steps = lab.experiment.rl.steps
    with MetricWriter(folder) as writer:
        trained = reinforce(make_trainer(lab, lab.experiment.algorithm), parameters, writer,
                            functools.partial(_look, lab, folder, parameters))
    if steps:
        checkpoints.save(folder.checkpoints_path / f"step_{steps:04d}", trained)


def _look(lab: Lab, folder: RunFolder, first: Parameters, step: int, parameters: Parameters,
          progress: Progress) -> None:
    every, last = lab.experiment.evaluation.every, lab.experiment.rl.steps
    if step == last or (every and step % every == 0):
        _record(lab, folder, parameters, step, first)


def _record(lab: Lab, folder: RunFolder, parameters: Parameters, step: int, first: Parameters | None = None) -> None:
    """Evaluates the parameters and writes every answer and the summary to the folder.

    Args: first: the policy that training started from, with which tokens are compared.
    """
    experiment = lab.experiment
    # The same key at every step: policies are compared on the same draws, which takes noise out of the difference.
    key = keys.derive(experiment.seed, keys.Role.EVALUATION, 0)
    result = evaluate(lab.policy, parameters, lab.verifier, lab.held_out, experiment.evaluation, key,
                      experiment.seed, reference=first)
    label = BASE if step == 0 else f"step_{step:04d}"
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
