"""What a search made: every answer with its reward and what it cost, and which of them is returned.

Shape letters: P problems, A most answers a problem, T most tokens of an answer.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rl_reasoning.latent.finish import Answers
from rl_reasoning.rollouts import BROKEN, Policy
from rl_reasoning.types import Problem, Prompts


class Answered(NamedTuple):
    """Answers to be rewarded, one a problem.

    problems, texts: [B]. prompts: ids [B, Lp], lengths [B]. ids: [B, T]. lengths: [B]. numbers: [B], which answer to
    its problem each is, from 0.
    """

    problems: Sequence[Problem]
    texts: Sequence[str]
    prompts: Prompts
    ids: np.ndarray
    lengths: np.ndarray
    numbers: np.ndarray


class Scores(NamedTuple):
    """What a reward says.

    rewards: [B], NaN where there can be none (a verifier crashed): that is never a low reward.
    tokens: [B], generated in order to judge.
    process: [B, T], a reward for each token, or None when all tokens of an answer have its reward.
    """

    rewards: np.ndarray
    tokens: np.ndarray
    process: np.ndarray | None = None


Reward = Callable[[Answered], Scores]


@dataclasses.dataclass
class Attempts:
    """Every answer to every problem, in the order in which they were made.

    Attributes:
      ids: [P, A, T] int32. lengths: [P, A]. reasons: [P, A] `StopReason`.
      rewards: [P, A]; NaN where there is no answer or no reward.
      process: [P, A, T], each token's reward.
      tokens: [P, A], generated for the answer and for judging it; 0 where there is none.
      counts: [P], answers made.
    """

    problems: Sequence[Problem]
    prompts: Prompts
    policy: Policy
    ids: np.ndarray
    lengths: np.ndarray
    reasons: np.ndarray
    rewards: np.ndarray
    process: np.ndarray
    tokens: np.ndarray
    counts: np.ndarray

    @classmethod
    def empty(cls, policy: Policy, problems: Sequence[Problem], most: int, max_tokens: int) -> "Attempts":
        """Room for `most` answers a problem. Raises ValueError for a prompt that does not fit, see `Policy.encode`."""
        shape = len(problems), most
        return cls(problems, policy.encode(problems), policy, np.zeros((*shape, max_tokens), np.int32),
                   np.zeros(shape, np.int32), np.zeros(shape, np.int8), np.full(shape, np.nan),
                   np.full((*shape, max_tokens), np.nan), np.zeros(shape, np.int64), np.zeros(len(problems), np.int64))

    def add(self, rows: np.ndarray, answers: Answers, reward: Reward | None) -> None:
        """The next answer of some problems [B], rewarded; None has no rewards, and nor has a broken answer."""
        numbers = self.counts[rows]
        at = rows, numbers
        self.ids[at], self.lengths[at], self.reasons[at] = answers
        self.tokens[at] = answers.lengths
        self.counts[rows] += 1
        fine = np.flatnonzero(~np.isin(answers.reasons, list(BROKEN)))
        if reward is None or not len(fine):
            return
        rows, numbers = rows[fine], numbers[fine]
        texts = [self.text(*where) for where in zip(rows, numbers, strict=True)]
        scores = reward(Answered([self.problems[row] for row in rows], texts, self.prompts_of(rows),
                                 answers.ids[fine], answers.lengths[fine], numbers))
        at = rows, numbers
        self.rewards[at] = scores.rewards
        self.tokens[at] += scores.tokens
        self.process[at] = scores.rewards[:, None] if scores.process is None else scores.process

    def prompts_of(self, rows: np.ndarray) -> Prompts:
        """The prompts of some problems."""
        return Prompts(self.prompts.ids[rows], self.prompts.lengths[rows])

    def latest(self, rows: np.ndarray) -> np.ndarray:
        """[B] rewards of these problems' latest answers."""
        return self.rewards[rows, self.counts[rows] - 1]

    def text(self, problem: int, attempt: int) -> str:
        """The text of one answer."""
        return self.policy.decode(self.ids[problem, attempt], self.lengths[problem, attempt])

    def returned(self, rule: str) -> list[str]:
        """The text of each problem's answer that `chosen` names."""
        return [self.text(*where) for where in enumerate(self.chosen(rule))]

    def within(self, budget: float) -> np.ndarray:
        """[P, A] bool: the answers that a problem can have for so many tokens; the first can always be had."""
        made = np.arange(self.tokens.shape[1]) < self.counts[:, None]
        within = made & (self.tokens.cumsum(axis=1) <= budget)
        within[:, 0] = True
        return within

    def chosen(self, rule: str, budget: float = np.inf) -> np.ndarray:
        """[P]: the answer that is returned, among those that have a reward; the first where none has.

        Args:
          rule: "last", or "best" for the highest reward, of equal ones the first.
          budget: tokens a problem, see `within`.
        """
        usable = self.within(budget) & np.isfinite(self.rewards)
        if rule == "last":
            return np.where(usable, np.arange(usable.shape[1]), 0).max(axis=1)
        return np.where(usable, self.rewards, -np.inf).argmax(axis=1)


def vote(answers: Sequence[Sequence[str | None]], within: np.ndarray) -> np.ndarray:
    """Self-consistency (arXiv 2203.11171): of each problem, the first of the answers that most agree with.

    Args:
      answers: [P][A], what was read from each; None has no vote.
      within: [P, A] bool, the answers that count.

    Returns: [P]; the first answer where none can vote, and among equally many the one that came first.
    """
    chosen = np.zeros(len(answers), np.int64)
    for row, (values, counted) in enumerate(zip(answers, within, strict=True)):
        votes = [value for value, counts in zip(values, counted, strict=False) if counts and value is not None]
        if votes:
            chosen[row] = values.index(max(dict.fromkeys(votes), key=votes.count))
    return chosen
