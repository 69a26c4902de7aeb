"""Problems answered by a policy and scored by a verifier."""

import dataclasses
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from rl_reasoning.config import Sampling
from rl_reasoning.models.decoder import DecoderConfig, Parameters
from rl_reasoning.parallel import Layout
from rl_reasoning.sampling.engine import Counts, Engine, JaxEngine
from rl_reasoning.sampling.weights import Fresh
from rl_reasoning.tasks.pool import Verifier
from rl_reasoning.tokenizers import Tokenizer
from rl_reasoning.types import Completions, Outcome, Problem, Prompts, Rollouts, StopReason, Verdict

# Why an answer says nothing about the policy, and is judged by no verifier.
BROKEN = {StopReason.CANCELLED: "sampling was cancelled before this answer ended",
          StopReason.NAN: "the policy's logits were not finite"}


class NothingScored(RuntimeError):
    """The verifier had no verdict on any answer of a step or an evaluation."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """A decoder and the tokenizer that feeds it; parameters are passed beside it, since they change.

    Attributes:
      prompt_tokens: room for a prompt; every batch of prompts is padded to it, so one shape is compiled.
      engine: what samples answers; ours if not given.
      layout: the devices that the policy is trained on; None when it is one.
      sampler: those that answer, where they are others.
      fresh: asks whether the engine holds the parameters that it was given.
      turn: an engine answers one call at a time, whichever thread it is from.
    """

    config: DecoderConfig
    tokenizer: Tokenizer
    prompt_tokens: int
    engine: Engine = None  # type: ignore[assignment]  # there is one once the policy is made
    layout: Layout | None = None
    sampler: Layout | None = None
    fresh: Fresh = dataclasses.field(default_factory=Fresh, repr=False, compare=False)
    turn: Any = dataclasses.field(default_factory=threading.Lock, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.engine is None:
            object.__setattr__(self, "engine", JaxEngine(self.config, self.tokenizer.eos_id, self.tokenizer,
                                                         layout=self.sampler or self.layout))

    def encode(self, problems: Sequence[Problem]) -> Prompts:
        """Right-padded ids of the problems' prompts.

        Raises:
          ValueError: a prompt is empty or longer than `prompt_tokens`; nothing is ever cut off.
        """
        ids = np.zeros((len(problems), self.prompt_tokens), np.int32)
        lengths = np.zeros(len(problems), np.int32)
        for row, problem in enumerate(problems):
            encoded = self.tokenizer.encode_prompt(problem.prompt)
            if not 1 <= len(encoded) <= self.prompt_tokens:
                raise ValueError(f"the prompt of {problem.id!r} has {len(encoded)} tokens; 1 to {self.prompt_tokens} "
                                 "fit")
            ids[row, :len(encoded)], lengths[row] = encoded, len(encoded)
        return Prompts(ids, lengths)

    def decode(self, ids: np.ndarray, length: int) -> str:
        """The text of one answer."""
        return self.tokenizer.decode(ids[:length].tolist())


def longest_prompt(tokenizer: Tokenizer, problems: Sequence[Problem]) -> int:
    """Tokens of the longest prompt."""
    return max(len(tokenizer.encode_prompt(problem.prompt)) for problem in problems)


def sample(policy: Policy, parameters: Parameters, problems: Sequence[Problem], samples: range, key: jax.Array,
           sampling: Sampling) -> tuple[Prompts, Completions]:
    """Answers to each problem; numpy arrays with axes [P, n].

    Args:
      samples: the sample numbers; an answer depends on its problem, its number and the key, on nothing else.
      key: see `rl_reasoning.keys.derive`.

    Raises:
      StaleWeights: the engine sampled from other parameters.
    """
    shape = (len(problems), len(samples))
    prompts, flat = sample_counts(policy, parameters, problems, [len(samples)] * len(problems), samples.start, key,
                                  sampling)
    return prompts, Completions(*(table.reshape(*shape, *table.shape[1:]) for table in flat))


def sample_counts(policy: Policy, parameters: Parameters, problems: Sequence[Problem], counts: Counts, first: int,
                  key: jax.Array, sampling: Sampling) -> tuple[Prompts, Completions]:
    """`sample` of any number of answers to each problem: prompts [P], and answers with one axis [N], in their order.

    Args: counts: [P]. first: the number of the first answer to each problem.
    """
    prompts = policy.encode(problems)
    numbers = [problem.number for problem in problems]
    with policy.turn:
        flat = policy.engine.generate(parameters, prompts, counts, sampling, key, numbers=numbers, first=first)
        policy.fresh.check(policy.engine.fingerprint, parameters)
    return prompts, flat


def second_opinions(parts: Sequence[Rollouts]) -> dict[str, float]:
    """How many answers a second verifier saw, and on which share of them it disagreed; {} when it saw none."""
    pairs = [(verdict.outcome, verdict.second) for part in parts for row in part.verdicts for verdict in row
             if verdict.second is not None]
    if not pairs:
        return {}
    return {"grader/second": float(len(pairs)),
            "grader/disagreement": float(np.mean([(one == Outcome.RIGHT) != (other == Outcome.RIGHT)
                                                  for one, other in pairs]))}


def verify(policy: Policy, verifier: Verifier, problems: Sequence[Problem], prompts: Prompts,
           completions: Completions) -> Rollouts:
    """Scores every answer. One that the engine did not bring to its end is unscorable, and no verifier sees it."""
    texts = tuple(tuple(policy.decode(ids, length) for ids, length in zip(*rows, strict=True))
                  for rows in zip(completions.ids, completions.lengths, strict=True))
    ended = ~np.isin(completions.stop_reasons, list(BROKEN))
    scored = iter(verifier.verify_all((problem, text) for problem, *rows in zip(problems, texts, ended, strict=True)
                                      for text, fine in zip(*rows, strict=True) if fine))
    verdicts = tuple(tuple(next(scored) if reason not in BROKEN
                           else Verdict(Outcome.CRASH, math.nan, None, BROKEN[StopReason(reason)]) for reason in row)
                     for row in completions.stop_reasons.tolist())
    rewards = np.asarray([[verdict.reward for verdict in row] for row in verdicts], np.float32)
    return Rollouts(tuple(problems), prompts, completions, texts, verdicts, rewards, _components(verdicts))


def _components(verdicts: Sequence[Sequence[Verdict]]) -> np.ndarray:
    """[P, n, K]: each verdict's parts, in the order of the first one's names.

    Raises:
      ValueError: two scorable verdicts name different parts.
    """
    parts = [[_parts(verdict) if verdict.scorable else None for verdict in row] for row in verdicts]
    names = next((tuple(found) for row in parts for found in row if found is not None), ("reward", "format"))
    for found in (found for row in parts for found in row if found is not None):
        if set(found) != set(names):
            raise ValueError(f"a verdict has the reward components {sorted(found)}, another {sorted(names)}: give "
                             "every verdict of a task the same")
    return np.asarray([[[np.nan if found is None else found[name] for name in names] for found in row]
                       for row in parts], np.float32)


def _parts(verdict: Verdict) -> Mapping[str, float]:
    if verdict.components is not None:
        return verdict.components
    return {"reward": verdict.reward, "format": float(verdict.outcome != Outcome.UNPARSABLE)}
