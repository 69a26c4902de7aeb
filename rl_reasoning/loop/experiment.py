"""A whole experiment: the base, one algorithm or several from it, and what people look at afterwards."""

import dataclasses
import functools
import sys
from pathlib import Path

from rl_reasoning import keys
from rl_reasoning.evaluation.evaluate import evaluate
from rl_reasoning.loop.fingerprints import fingerprints
from rl_reasoning.loop.folders import is_finished, status
from rl_reasoning.loop.keeper import Keeper
from rl_reasoning.loop.reinforce import alarm, make_trainer, reinforce
from rl_reasoning.loop.setup import Lab
from rl_reasoning.loop.stops import Stops
from rl_reasoning.loop.warm_start import base
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.reporting.console import Progress, say
from rl_reasoning.reporting.results import BASE
from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.reporting.writers import MetricWriter

MOST_DISAGREEMENT = 0.01


def train(lab: Lab, path: Path, stops: Stops) -> RunFolder:
    """One algorithm from the base, with the base's evaluation in the same folder, `path`."""
    folder = _described(lab, path)
    parameters = base(lab, stops)
    _record(lab, folder, parameters, 0)
    _run_algorithm(lab, folder, parameters, stops)
    return folder


def compare(lab: Lab, parent: Path, stops: Stops) -> list[RunFolder]:
    """Several algorithms from one base, a folder each below `parent`; the base's evaluation has a folder too."""
    experiment, parameters, folders = lab.experiment, base(lab, stops), []
    for name in experiment.compare:
        alone = dataclasses.replace(lab, experiment=dataclasses.replace(
            experiment, algorithm=name, mode="train", compare=()))
        folders.append(_described(alone, parent / name))
        if lab.hosts.told(functools.partial(is_finished, parent / name), name):
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
    with MetricWriter(folder) as writer, Keeper(folder, lab.experiment.checkpoint, prints, trainer.batches,
                                                hosts=lab.hosts) as keeper:
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
    if lab.hosts.told(lambda: any(record["label"] == label for record in folder.evaluations()), f"evaluation {label}"):
        return
    lab.hosts.at(f"evaluation {label}", step)
    # The same key at every step: policies are compared on the same draws, which takes noise out of the difference.
    key = keys.derive(experiment.seed, keys.Role.EVALUATION, 0)
    result = evaluate(lab.policy, parameters, lab.verifier, lab.held_out, experiment.evaluation, key,
                      experiment.seed, reference=first)
    alarm((row for part in result.rollouts for row in part.verdicts), f"evaluation {label}")
    summary = {"label": label, "algorithm": BASE if step == 0 else experiment.algorithm, "seed": experiment.seed,
               "step": step, **result.summary}
    if lab.hosts.is_first:
        folder.write_evaluation(summary, result.samples())
    if summary.get("grader/disagreement", 0) > MOST_DISAGREEMENT:
        say(f"warning: two graders disagree on {100 * summary['grader/disagreement']:.1f} % of the "
            f"{summary['grader/second']:.0f} answers that both judged; see `second` in evaluations/{label}.jsonl")
    values = summary["pass_at_k"]
    largest = str(experiment.evaluation.samples)
    if largest in values:
        say(f"{label}: Pass@1 {100 * values['1'][0]:.1f}, Pass@{largest} {100 * values[largest][0]:.1f}, "
            f"entropy {summary['entropy']:.3f}, length {summary['length']:.1f}")
