"""The records that flow from problems to updates.

Nothing here imports jax: verifier processes read this module. Records that cross to a device are
named tuples, which jax treats as pytrees; the others are frozen dataclasses.

Shape letters: P prompts, n samples a prompt, N = P * n sequences, Lp prompt tokens, T answer tokens,
R packed rows, L row length.
"""

import dataclasses
import enum
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


@dataclasses.dataclass(frozen=True)
class Message:
    """One turn of a chat: `role` is "system", "user" or "assistant"."""

    role: str
    content: str


@dataclasses.dataclass(frozen=True)
class Problem:
    """One question with a checkable answer.

    Attributes:
      id: unique and stable within the task; random keys and the train/held-out split derive from it.
      prompt: the text, or the chat turns, that the policy continues.
      answer: what the task's verifier needs; never shown to the policy.
      task: name of the task that made it.
      metadata: JSON-able facts about the problem (level, subject, ...).
    """

    id: str
    prompt: str | tuple[Message, ...]
    answer: Any
    task: str
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def number(self) -> int:
        """31 bits that stand for the id in random keys and splits; the same on every machine."""
        return int.from_bytes(hashlib.sha256(self.id.encode()).digest()[:4], "big") >> 1


class Outcome(enum.StrEnum):
    """What a verifier found. TIMEOUT and CRASH are unscorable: they are never a wrong answer."""

    RIGHT = "right"
    WRONG = "wrong"
    PARTIAL = "partial"
    UNPARSABLE = "unparsable"
    TIMEOUT = "timeout"
    CRASH = "crash"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A verifier's word on one completion.

    Attributes:
      outcome: see `Outcome`.
      reward: 1.0 right, 0.0 wrong or unparsable, in between when partial, NaN when unscorable. A task may shift the
        scale, as 2 * share - 1 does.
      answer: the answer that was read from the text, or None.
      reason: one sentence saying why.
      components: the parts of a composed reward by name, for algorithms that weigh several (`advantages.gdpo`);
        None stands for the reward itself and whether an answer could be read.
      second: what a second verifier found, where one was asked; it changes nothing but a count.
    """

    outcome: Outcome
    reward: float
    answer: str | None
    reason: str
    components: Mapping[str, float] | None = None
    second: Outcome | None = None

    @property
    def scorable(self) -> bool:
        """Whether the verdict says anything of the answer."""
        return self.outcome not in (Outcome.TIMEOUT, Outcome.CRASH)


class StopReason(enum.IntEnum):
    """Why a completion ended.

    EOS: it emitted the end-of-sequence token, or another stop token. LENGTH: it ran out of room. STOP_STRING: its text
    came to hold one. CANCELLED: it was ended from outside. NAN: its logits gave no distribution; like a cancelled
    answer it says nothing about the policy and is never scored.
    """

    EOS = 0
    LENGTH = 1
    STOP_STRING = 2
    CANCELLED = 3
    NAN = 4


class Prompts(NamedTuple):
    """Right-padded prompts; what lies beyond a length is never read.

    ids: [P, Lp] int32. lengths: [P] int32, 1..Lp.
    """

    ids: np.ndarray
    lengths: np.ndarray


class Completions(NamedTuple):
    """Sampled continuations, the end-of-sequence token included in ids, log-probs and length.

    ids: [P, n, T] int32. logprobs: [P, n, T] float32, under the distribution that was sampled from,
    0 beyond the length. lengths: [P, n] int32, 1..T, or 0 where an answer was cancelled or failed at once.
    stop_reasons: [P, n] int8, see `StopReason`. An engine gives one axis [N] in place of [P, n], since its counts may
    differ.
    """

    ids: np.ndarray
    logprobs: np.ndarray
    lengths: np.ndarray
    stop_reasons: np.ndarray


@dataclasses.dataclass(frozen=True)
class Rollouts:
    """Problems with n answers each, scored.

    Attributes:
      problems: P problems.
      prompts: their token ids.
      completions: n answers each.
      texts: [P][n] decoded answers (derived for people and verifiers; never encoded again).
      verdicts: [P][n].
      rewards: [P, n] float32; NaN where unscorable.
      components: [P, n, K] float32, the parts of the rewards; NaN where unscorable.
    """

    problems: tuple[Problem, ...]
    prompts: Prompts
    completions: Completions
    texts: tuple[tuple[str, ...], ...]
    verdicts: tuple[tuple[Verdict, ...], ...]
    rewards: np.ndarray
    components: np.ndarray

    @property
    def truncated(self) -> np.ndarray:
        """[P, n] bool: the answer ran out of room."""
        return self.completions.stop_reasons == StopReason.LENGTH

    def take(self, rows: np.ndarray) -> "Rollouts":
        """Some of the problems with their answers. rows: int indices."""
        def pick(items: tuple) -> tuple:
            return tuple(items[row] for row in rows)

        return Rollouts(pick(self.problems), Prompts(*(array[rows] for array in self.prompts)),
                        Completions(*(array[rows] for array in self.completions)), pick(self.texts),
                        pick(self.verdicts), self.rewards[rows], self.components[rows])


def join(parts: Sequence[Rollouts]) -> Rollouts:
    """The problems of several rollouts of the same shapes, one after another."""
    def chain(name: str) -> tuple:
        return tuple(item for part in parts for item in getattr(part, name))

    def stack(name: str) -> tuple:
        return tuple(map(np.concatenate, zip(*(getattr(part, name) for part in parts), strict=True)))

    return Rollouts(chain("problems"), Prompts(*stack("prompts")), Completions(*stack("completions")), chain("texts"),
                    chain("verdicts"), np.concatenate([part.rewards for part in parts]),
                    np.concatenate([part.components for part in parts]))
