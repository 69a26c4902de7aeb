"""A policy's answers to held-out problems, and what they are worth."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from rl_reasoning.config import Evaluation
from rl_reasoning.evaluation.pass_at_k import pass_at_k_summary
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.rollouts import NothingScored, Policy, sample, second_opinions, verify
from rl_reasoning.tasks.pool import Verifier
from rl_reasoning.types import Outcome, Problem, Rollouts, StopReason


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """What `evaluate` found.

    Attributes:
      summary: Pass@k with intervals and the averages, as the run folder keeps them.
      rollouts: every answer, in parts.
    """

    summary: dict[str, Any]
    rollouts: tuple[Rollouts, ...]

    def samples(self) -> Iterator[dict[str, Any]]:
        """One record an answer, problem by problem."""
        for part in self.rollouts:
            yield from sample_records(part)


def evaluate(policy: Policy, parameters: Parameters, verifier: Verifier, problems: Sequence[Problem],
             settings: Evaluation, key: jax.Array, seed: int) -> EvaluationResult:
    """Draws `settings.samples` answers to each problem and estimates Pass@k.

    Args:
      key: see `rl_reasoning.keys.derive`; an answer depends on the key, its problem and its number alone.
      seed: of the bootstrap.

    Raises:
      NothingScored: no answer at all could be scored, so Pass@k is not defined.
    """
    together = max(1, settings.batch // settings.samples)
    parts = []
    for first in range(0, len(problems), together):
        chunk = list(problems[first:first + together])
        # The last chunk is filled up with repeats, so that one shape is compiled; the repeats are dropped.
        padded = chunk + [chunk[-1]] * (min(together, len(problems)) - len(chunk))
        prompts, completions = sample(policy, parameters, padded, range(settings.samples), key, settings.sampling)
        kept = (type(whole)(*(array[:len(chunk)] for array in whole)) for whole in (prompts, completions))
        parts.append(verify(policy, verifier, chunk, *kept))
    return EvaluationResult(_summary(parts, settings, seed), tuple(parts))


def _summary(parts: Sequence[Rollouts], settings: Evaluation, seed: int) -> dict[str, Any]:
    rewards = np.concatenate([part.rewards for part in parts])
    right, total = (rewards == 1).sum(axis=1), np.isfinite(rewards).sum(axis=1)
    known = total > 0
    if not known.any():
        raise NothingScored(f"no answer of the evaluation could be scored; the first: {parts[0].verdicts[0][0].reason}")
    # An answer's surprise, summed over its tokens and averaged over tokens, estimates the entropy.
    surprise = -sum(float(part.completions.logprobs.sum()) for part in parts)
    return {
        "problems": len(rewards), "samples": settings.samples,
        "pass_at_k": pass_at_k_summary(right[known], total[known], settings.samples, settings.bootstrap, seed),
        "unscorable_problems": int((~known).sum()),
        "right": right.tolist(), "total": total.tolist(),
        **_facts(parts, settings.by),
        "entropy": surprise / sum(int(part.completions.lengths.sum()) for part in parts),
        **answer_statistics(parts),
    }


def _facts(parts: Sequence[Rollouts], by: str) -> dict[str, Any]:
    """What each problem is counted under in the table of accuracy by a fact of the problems."""
    if not by:
        return {}
    return {"by": by, "groups": [str(problem.metadata[by]) for part in parts for problem in part.problems]}


def answer_statistics(parts: Sequence[Rollouts]) -> dict[str, float]:
    """Shares and means over all answers: length (tokens), format, accuracy_given_format, truncated, unscorable."""
    outcomes = np.asarray([verdict.outcome for part in parts for row in part.verdicts for verdict in row])
    lengths = np.concatenate([part.completions.lengths.ravel() for part in parts])
    stops = np.concatenate([part.completions.stop_reasons.ravel() for part in parts])
    unscorable = np.isin(outcomes, (Outcome.TIMEOUT, Outcome.CRASH))
    parsed = ~unscorable & (outcomes != Outcome.UNPARSABLE)
    return {
        "length": float(lengths.mean()),
        "format": float(parsed.sum() / max(1, (~unscorable).sum())),
        "accuracy_given_format": float((outcomes == Outcome.RIGHT).sum() / max(1, parsed.sum())),
        "truncated": float((stops == StopReason.LENGTH).mean()),
        "unscorable": float(unscorable.mean()),
        **second_opinions(parts),
    }


def sample_records(rollouts: Rollouts) -> Iterator[dict[str, Any]]:
    """One JSON-able record an answer."""
    completions = rollouts.completions
    logprobs = completions.logprobs.sum(axis=-1, dtype=np.float64)
    for p, problem in enumerate(rollouts.problems):
        prompt = problem.prompt if isinstance(problem.prompt, str) else problem.prompt[-1].content
        for i, (text, verdict) in enumerate(zip(rollouts.texts[p], rollouts.verdicts[p], strict=True)):
            yield {"problem": problem.id, "sample": i, "prompt": prompt, "text": text, "answer": verdict.answer,
                   "outcome": verdict.outcome, "reward": verdict.reward, "reason": verdict.reason,
                   "logprob": float(logprobs[p, i]), "length": int(completions.lengths[p, i]),
                   "stop_reason": StopReason(completions.stop_reasons[p, i]).name.lower(),
                   **({"second": verdict.second} if verdict.second else {})}
