"""Judging answers that were written down, again or with another grader; no model is loaded."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rl_reasoning import config, edge
from rl_reasoning.config import Experiment
from rl_reasoning.data.problems import read_problems
from rl_reasoning.edge import ConfigError
from rl_reasoning.json_file import read_json
from rl_reasoning.loop.setup import make_task, make_verifier
from rl_reasoning.reporting.json_lines import json_line, read_lines
from rl_reasoning.tasks.maths.extraction import NoAnswer, boxed
from rl_reasoning.tasks.maths.task import Math
from rl_reasoning.types import Problem

# The fields by which RLVR-Decomposed's files are known: one line an answer, `label` says whether it is right.
THEIRS = {"question_id", "label", "response"}
CHUNK = 2048


class Scored(NamedTuple):
    """Records as `evaluation.summary.Tally` takes them, and the facts of the problems by name and problem."""

    records: Iterator[dict[str, Any]]
    facts: Mapping[str, Mapping[str, str]]


def score_file(path: Path, grader: str = "", settings: Mapping[str, str] | None = None) -> Scored:
    """The answers of a file with their verdicts: those that the file holds, or new ones.

    Args:
      path: answers of an evaluation (`RUN/evaluations/LABEL.jsonl`), or of RLVR-Decomposed's eval.py.
      grader: an entry of `tasks.maths.graders.GRADERS`; "" keeps the verdicts of the file.
      settings: changes to the settings of the run that the file lies in, by dotted key, as text; its own task
        then judges.

    Raises:
      ConfigError: the file is of neither kind, there is no such grader, or its run's settings are needed and missing.
      FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    first = next(read_lines(path), None)
    if first is None:
        raise ConfigError(f"{path} holds no answer")
    if set(first) >= THEIRS:
        return Scored(_theirs(path, grader), {})
    if not set(first) >= {"problem", "sample", "outcome", "text"}:
        raise ConfigError(f"{path}: its lines have the fields {', '.join(sorted(first))}; known are answers of this "
                          f"project (problem, sample, text, outcome) and of RLVR-Decomposed ({', '.join(THEIRS)})")
    if not grader and not settings:
        return Scored(read_lines(path), {})
    return _ours(path, grader, settings or {})


def _ours(path: Path, grader: str, settings: Mapping[str, str]) -> Scored:
    kept = path.parent.parent / "config.json"
    if not kept.is_file():
        raise ConfigError(f"{path} is in no run folder: {kept} is needed, which says what the problems are")
    written = edge.to_config_dict(edge.read_experiment(read_json(kept).get("config", {})))
    changes = {**({"task.math.grader": grader} if grader else {}), **settings}
    written.update_from_flattened_dict({key: edge.read_text_value(key, text) for key, text in changes.items()})
    experiment = edge.read_experiment(written)
    if grader and experiment.task.kind != "math":
        raise ConfigError(f"a grader is for problems of mathematics; {path} holds answers to task.kind = "
                          f"{experiment.task.kind!r}, which its task judges alone")
    problems = {problem.id: problem for problem in _held_out(experiment)}
    facts = {name: {key: str(problem.metadata[name]) for key, problem in problems.items() if name in problem.metadata}
             for name in experiment.evaluation.by}
    verifier = make_verifier(make_task(experiment), experiment.verifier)
    return Scored(_judged(verifier, ((problems[record["problem"]], record["text"], record)
                                     for record in read_lines(path))), facts)


def _held_out(experiment: Experiment) -> tuple[Problem, ...]:
    """All problems that the run may have evaluated on."""
    evaluation = experiment.evaluation
    if experiment.task.kind == "math":
        return read_problems(experiment.task.math.held_out, experiment.task.math).problems
    return make_task(experiment).held_out_problems(evaluation.first + evaluation.problems, seed=0)


def _theirs(path: Path, grader: str) -> Iterator[dict[str, Any]]:
    """RLVR-Decomposed's answers: by their labels, or judged by a grader against `gold_answer` or the solution's box."""
    if not grader:
        for record in read_lines(path):
            right = bool(record["label"])
            yield {"problem": record["question_id"], "outcome": "right" if right else "wrong", "reward": float(right),
                   "answer": record.get("pred_answer"), "text": record["response"]}
        return
    task = Math(config.Math(grader=grader, answer_form="boxed", second_share=0.0))
    yield from _judged(make_verifier(task, config.Verifier()), (
        (Problem(str(record["question_id"]), "", _gold(path, record), "math", {"question": record.get("question", "")}),
         record["response"], {"problem": record["question_id"], "text": record["response"]})
        for record in read_lines(path)))


def _gold(path: Path, record: Mapping[str, Any]) -> str:
    gold = record.get("gold_answer")
    if gold is None and isinstance(record.get("answer"), str):
        try:
            gold = boxed(record["answer"]) or record["answer"]
        except NoAnswer:
            gold = None
    if gold is None:
        raise ConfigError(f"{path}: question {record['question_id']} has neither gold_answer nor answer, so it cannot "
                          "be judged again; without --grader the labels of the file are counted")
    return str(gold)


def _judged(verifier: Any, asked: Iterable[tuple[Problem, str, Mapping[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Each record with the verifier's verdict in place of its own; the verifier is closed at the end."""
    try:
        asked = iter(asked)
        while chunk := [each for each, _ in zip(asked, range(CHUNK), strict=False)]:
            verdicts = verifier.verify_all((problem, text) for problem, text, _ in chunk)
            for (_, _, record), verdict in zip(chunk, verdicts, strict=True):
                yield {**record, "answer": verdict.answer, "outcome": verdict.outcome, "reward": verdict.reward,
                       "reason": verdict.reason, "second": verdict.second}
    finally:
        verifier.close()


def first_answers(records: Iterable[Mapping[str, Any]], count: int) -> Iterator[Mapping[str, Any]]:
    """The first `count` answers of each problem.

    Raises:
      ValueError: in the end, when some problem has fewer.
    """
    seen: dict[Any, int] = {}
    for record in records:
        seen[record["problem"]] = seen.get(record["problem"], 0) + 1
        if seen[record["problem"]] <= count:
            yield record
    few = next((problem for problem, found in seen.items() if found < count), None)
    if few is not None:
        raise ValueError(f"problem {few!r} has {seen[few]} answers and {count} were asked for")


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Hands the records on, and writes each to `path` as it comes."""
    with path.open("x", encoding="ascii", newline="\n") as file:
        for record in records:
            file.write(json_line(record))
            yield record
