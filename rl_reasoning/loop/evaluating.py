"""Mode evaluate: answers of any policy to any problems, without training. It goes on where it was stopped."""

import dataclasses
import functools
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rl_reasoning import keys
from rl_reasoning.config import Experiment
from rl_reasoning.edge import ConfigError
from rl_reasoning.evaluation.evaluate import answers, plan, summarize
from rl_reasoning.evaluation.summary import Tally, every_k_csv
from rl_reasoning.loop.restore import restore
from rl_reasoning.loop.setup import Lab, build
from rl_reasoning.loop.warm_start import base, base_path
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.reporting.console import Progress, say
from rl_reasoning.reporting.results import BASE
from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.reporting.sample_file import SampleFile


class Asked(NamedTuple):
    """The policy that is evaluated, on the lab whose problems it is asked.

    label: of the evaluation in its folder. step: RL steps that it had. reference: what its tokens are compared with.
    """

    lab: Lab
    parameters: Parameters
    label: str
    algorithm: str
    step: int
    reference: Parameters | None


def evaluate_policy(experiment: Experiment) -> RunFolder:
    """Asks the policy of `evaluation.run`, or the base, and writes its answers to a folder below `workdir`.

    The folder's name derives from the settings: the same call goes on where an earlier one was stopped, and returns
    at once when all is there. No answer is lost or drawn twice, and the file is in the end, byte for byte, what it
    would have been without the stop (as long as the verifier says the same of the same text).

    Raises:
      ConfigError: settings that cannot be run, or a policy that these problems' words mean nothing to.
      NothingScored: no answer at all could be scored.
    """
    asked = asked_policy(experiment)
    lab = asked.lab
    try:
        folder = RunFolder(Path(experiment.workdir) / folder_name(lab.experiment))
        say(f"run folder: {folder.path}")
        if not (folder.path / "config.json").exists():  # the name tells apart all settings that answers depend on
            folder.write_config(lab.experiment, sys.argv)
        if lab.data:
            folder.write_data(lab.data.record)
        if not any(record["label"] == asked.label for record in folder.evaluations()):
            _fill(asked, folder)
    finally:
        lab.verifier.close()
    return folder


def folder_name(experiment: Experiment) -> str:
    """The name of the folder that an evaluation's answers go to."""
    settings = dataclasses.asdict(experiment)
    of = {name: settings[name] for name in ("task", "verifier", "model", "warm_start", "evaluation", "seed")}
    if experiment.engine:
        of["engine"] = experiment.engine
    if experiment.evaluation.run:
        of["run"] = str(Path(experiment.evaluation.run).resolve())
    digest = hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:10]
    return f"{experiment.name}-evaluate-{digest}"


def asked_policy(experiment: Experiment) -> Asked:
    """The policy of `evaluation.run`, or the base, on the problems of the settings.

    Raises:
      ConfigError: settings that cannot be run, or a policy that these problems' words mean nothing to.
    """
    evaluation = experiment.evaluation
    if not evaluation.run:
        lab = build(experiment)
        # Without a warm start it is the model as it came, which is nobody's base.
        if not experiment.warm_start.updates:
            return Asked(lab, base(lab), "policy", Path(experiment.model.source).name, 0, None)
        return Asked(lab, base(lab), BASE, BASE, 0, None)
    try:
        trained, parameters = restore(Path(evaluation.run), None if evaluation.step < 0 else evaluation.step)
        reference = restore(Path(evaluation.run), 0)[1] if _has_base(trained) else None
    except FileNotFoundError as error:
        raise ConfigError(f"config.evaluation.run = {evaluation.run!r}: {error}") from error
    run = trained.experiment
    lab = build(dataclasses.replace(experiment, model=run.model, warm_start=run.warm_start, algorithm=run.algorithm,
                                    objective=run.objective))
    if _language(lab) != _language(trained):
        lab.verifier.close()
        raise ConfigError(f"config.evaluation.run = {evaluation.run!r}: its policy knows the words of task.kind = "
                          f"{run.task.kind!r} as that run set it, and the problems of task.kind = "
                          f"{experiment.task.kind!r} here have others")
    step = run.rl.steps if evaluation.step < 0 else evaluation.step
    if step == 0:
        return Asked(lab, parameters, BASE, BASE, 0, None)
    return Asked(lab, parameters, f"step_{step:04d}", run.algorithm, step, reference)


def _has_base(lab: Lab) -> bool:
    """Whether the base can be had without training it again."""
    return not lab.experiment.warm_start.updates or (base_path(lab.experiment) / "checkpoint").exists()


def _language(lab: Lab) -> tuple:
    """What must agree between a policy and the problems that it is asked."""
    tokenizer = lab.policy.tokenizer
    ends = tuple(tokenizer.decode([id_]) for id_ in range(min(tokenizer.vocabulary_size, 512)))
    return lab.policy.config, tokenizer.vocabulary_size, tokenizer.eos_id, ends


def _fill(asked: Asked, folder: RunFolder) -> None:
    """Draws what is missing, writes it as it comes, and sums it up."""
    lab, settings, tally = asked.lab, asked.lab.experiment.evaluation, Tally()
    with SampleFile(folder.samples_path(asked.label)) as file:
        done = 0
        for record, expected in itertools.zip_longest(file.read(), _expected(lab)):
            if record is None:
                break
            if expected is None or (record["problem"], record["sample"]) != expected:
                raise ConfigError(f"{file.path}, line {done + 1} is not what this evaluation wrote: move the file away")
            tally.add([record])
            done += 1
        if done:
            say(f"{done} answers are there already")
        key = keys.derive(lab.experiment.seed, keys.Role.EVALUATION, 0)
        draw = functools.partial(answers, lab.policy, asked.parameters, lab.verifier, lab.held_out, settings, key,
                                 asked.reference, done)
        for records in _watched(draw(), done, sum(part.answers for part in plan(len(lab.held_out), settings))):
            file.append(records)
            tally.add(records)
    summary = summarize(tally, lab.held_out, settings, lab.experiment.seed)
    record = {"label": asked.label, "algorithm": asked.algorithm, "seed": lab.experiment.seed, "step": asked.step,
              **summary}
    curve = every_k_csv(*tally.counts(), settings.bootstrap, lab.experiment.seed)
    (folder.path / "evaluations" / f"{asked.label}-pass_at_k.csv").write_text(curve, encoding="ascii", newline="\n")
    folder.write_summary(record, tally.problems)


def _expected(lab: Lab) -> Iterator[tuple[str, int]]:
    """(problem, sample) of each line, in order."""
    for part in plan(len(lab.held_out), lab.experiment.evaluation):
        for problem in lab.held_out[part.first:part.first + part.count]:
            yield from ((problem.id, sample) for sample in part.samples)


def _watched(parts: Iterator, done: int, total: int) -> Iterator[list[dict]]:
    """Each part's records, with a bar that counts answers and tells how many come a second."""
    start, first, tokens, right, scored = time.monotonic(), done, 0, 0, 0
    with Progress(total, "answers") as progress:
        for _, records in parts:
            yield records
            done += len(records)
            tokens += sum(record["length"] for record in records)
            right += sum(record["reward"] == 1 for record in records)
            scored += sum(record["reward"] == record["reward"] for record in records)
            seconds = max(time.monotonic() - start, 1e-9)
            progress.update(done, {"reward/right": right / max(1, scored), "length/mean": tokens / (done - first),
                                   "answers_per_second": (done - first) / seconds}, tokens / seconds)
