"""A policy's answers to held-out problems, and what they are worth."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rl_reasoning.config import Evaluation
from rl_reasoning.evaluation.summary import NothingToSummarize, Tally
from rl_reasoning.evaluation.token_scores import change_of_logprobs
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.rollouts import NothingScored, Policy, sample, verify
from rl_reasoning.tasks.pool import Verifier
from rl_reasoning.types import Completions, Problem, Rollouts, StopReason


class Part(NamedTuple):
    """Answers that are drawn together: `count` problems from number `first`, `samples` of each; drawn as `shape`."""

    first: int
    count: int  # type: ignore[assignment]  # hides a tuple's own count, which nothing calls
    samples: range
    shape: tuple[int, int]

    @property
    def answers(self) -> int:
        """How many."""
        return self.count * len(self.samples)


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """What `evaluate` found.

    Attributes:
      summary: Pass@k with intervals and the averages, as the run folder keeps them (see `Tally.summary`).
      rollouts: every answer, in parts.
      records: one mapping an answer, problem by problem (see `sample_records`).
    """

    summary: dict[str, Any]
    rollouts: tuple[Rollouts, ...]
    records: tuple[dict[str, Any], ...]

    def samples(self) -> Iterator[dict[str, Any]]:
        """One record an answer, problem by problem."""
        return iter(self.records)


def evaluate(policy: Policy, parameters: Parameters, verifier: Verifier, problems: Sequence[Problem],
             settings: Evaluation, key: jax.Array, seed: int, reference: Parameters | None = None) -> EvaluationResult:
    """Draws `settings.samples` answers to each problem and estimates Pass@k.

    Args:
      key: see `rl_reasoning.keys.derive`; an answer depends on the key, its problem and its number alone.
      seed: of the bootstrap.
      reference: an earlier policy; tokens that are kept then carry how their log-probability has changed.

    Raises:
      NothingScored: no answer at all could be scored, so Pass@k is not defined.
    """
    tally, parts, records = Tally(), [], []
    for rollouts, found in answers(policy, parameters, verifier, problems, settings, key, reference):
        parts.append(rollouts)
        records += found
        tally.add(found)
    return EvaluationResult(summarize(tally, problems, settings, seed), tuple(parts), tuple(records))


def summarize(tally: Tally, problems: Sequence[Problem], settings: Evaluation, seed: int) -> dict[str, Any]:
    """`Tally.summary` with the facts of the problems that accuracy is broken down by. Raises NothingScored."""
    try:
        summary = tally.summary(settings.samples, settings.bootstrap, seed)
    except NothingToSummarize as error:
        raise NothingScored(str(error)) from None
    return summary | {"facts": facts(problems, settings.by)}


def facts(problems: Sequence[Problem], names: Sequence[str]) -> dict[str, list[str]]:
    """{name: [P]}: what each problem is counted under in the tables of accuracy by a fact of the problems."""
    return {name: [str(problem.metadata[name]) for problem in problems] for name in names}


def plan(problems: int, settings: Evaluation) -> Iterator[Part]:
    """The parts in which answers are drawn, in the order of their records: problem by problem, sample by sample.

    All are drawn in one shape, so that one is compiled; what a last part lacks is filled up and dropped.
    """
    width = min(settings.samples, settings.batch)
    together = min(max(1, settings.batch // settings.samples), problems)
    for first in range(0, problems, together):
        for start in range(0, settings.samples, width):
            samples = range(start, min(start + width, settings.samples))
            yield Part(first, min(together, problems - first), samples, (together, width))


def answers(policy: Policy, parameters: Parameters, verifier: Verifier, problems: Sequence[Problem],
            settings: Evaluation, key: jax.Array, reference: Parameters | None = None,
            done: int = 0) -> Iterator[tuple[Rollouts, list[dict[str, Any]]]]:
    """Draws and scores answers part by part; yields each with its records.

    Args: done: records that are kept already; parts that they cover are not drawn again, and the others' records
      come without them.
    """
    for part in plan(len(problems), settings):
        if done >= part.answers:
            done -= part.answers
            continue
        rollouts = _draw(policy, parameters, verifier, problems, settings, key, part)
        records = list(sample_records(rollouts, part.samples.start))
        _keep_tokens(policy, parameters, reference, settings, rollouts, part, records)
        yield rollouts, records[done:]
        done = 0


def _draw(policy: Policy, parameters: Parameters, verifier: Verifier, problems: Sequence[Problem],
          settings: Evaluation, key: jax.Array, part: Part) -> Rollouts:
    height, width = part.shape
    chunk = list(problems[part.first:part.first + part.count])
    filled = chunk + [chunk[-1]] * (height - len(chunk))
    numbers = range(part.samples.start, part.samples.start + width)
    prompts, completions = sample(policy, parameters, filled, numbers, key, settings.sampling)
    kept = Completions(*(array[:len(chunk), :len(part.samples)] for array in completions))
    return verify(policy, verifier, chunk, type(prompts)(*(array[:len(chunk)] for array in prompts)), kept)


def _keep_tokens(policy: Policy, parameters: Parameters, reference: Parameters | None, settings: Evaluation,
                 rollouts: Rollouts, part: Part, records: list[dict[str, Any]]) -> None:
    """Adds the tokens of a few answers to a problem to their records: [[text, log-probability], ...], and as a third
    number how it has changed from the reference, both at temperature 1."""
    if part.samples.start or not settings.traced:
        return  # a problem's answers may come in several parts; they are chosen from the first
    chosen = np.stack([_traced(row, min(settings.traced, len(row))) for row in rollouts.rewards])
    changes = None
    if reference is not None:
        changes = change_of_logprobs(policy, parameters, reference, rollouts, chosen)
    for p, row in enumerate(chosen):
        for place, i in enumerate(row):
            length = int(rollouts.completions.lengths[p, i])
            ids = rollouts.completions.ids[p, i, :length]
            columns = [[policy.decode(ids[at:], 1) for at in range(length)],
                       _rounded(rollouts.completions.logprobs[p, i, :length])]
            if changes is not None:
                columns.append(_rounded(changes[p, place, :length]))
            records[p * len(part.samples) + i]["tokens"] = [list(row) for row in zip(*columns, strict=True)]


def _traced(rewards: np.ndarray, count: int) -> np.ndarray:
    """[count]: which answers to look at, half of them right where there are so many, the earliest of each kind."""
    right, other = np.flatnonzero(rewards == 1), np.flatnonzero(rewards != 1)
    rights = min(len(right), max(count // 2, count - len(other)))
    return np.sort(np.concatenate([right[:rights], other[:count - rights]]))


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values]


def sample_records(rollouts: Rollouts, first: int = 0) -> Iterator[dict[str, Any]]:
    """One JSON-able record an answer. Args: first: the number of the first sample."""
    completions = rollouts.completions
    logprobs = completions.logprobs.sum(axis=-1, dtype=np.float64)
    for p, problem in enumerate(rollouts.problems):
        prompt = problem.prompt if isinstance(problem.prompt, str) else problem.prompt[-1].content
        for i, (text, verdict) in enumerate(zip(rollouts.texts[p], rollouts.verdicts[p], strict=True)):
            yield {"problem": problem.id, "sample": first + i, "prompt": prompt, "text": text,
                   "answer": verdict.answer, "outcome": verdict.outcome, "reward": verdict.reward,
                   "reason": verdict.reason, "logprob": float(logprobs[p, i]),
                   "length": int(completions.lengths[p, i]),
                   "stop_reason": StopReason(completions.stop_reasons[p, i]).name.lower(),
                   **({"second": verdict.second} if verdict.second else {})}
