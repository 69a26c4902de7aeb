"""Self-verification: the policy answers four questions about a solution, and its verdicts are the reward.

The checks and their weights are LatentSeek's (arXiv 2505.13308, its published code); the words are ours. A verdict is
read from what the policy generated and from nothing else, so neither the question put to it nor the solution that
is judged can speak it.
"""

import collections
import re
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from rl_reasoning.config import Sampling
from rl_reasoning.latent.attempts import Answered, Scores
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.rollouts import Policy, sample
from rl_reasoning.types import Message, Problem

WEIGHTS: Mapping[str, int] = {"calculation": 2, "answer": 1, "completeness": 2, "understanding": 1}
QUESTIONS: Mapping[str, str] = {
    "calculation": "Work through every calculation of the solution again. Are all of them correct?",
    "answer": "Solve the problem yourself and compare. Is the solution's final answer correct?",
    "completeness": "Does the solution give a final answer to everything that the problem asks for?",
    "understanding": "Does the solution understand the problem, and use what is given as it is meant?",
}
_VERDICT = re.compile(r"verdict\W{0,8}(true|false)\b", re.IGNORECASE)


def check_prompt(problem: Problem, text: str, check: str) -> str | tuple[Message, ...]:
    """The question about a solution, as chat turns where the problem has them.

    Args: check: a name of `QUESTIONS`.
    """
    asked = problem.prompt if isinstance(problem.prompt, str) else problem.prompt[-1].content
    words = (f"Problem:\n{asked}\n\nProposed solution:\n{text}\n\n{QUESTIONS[check]} Think briefly, then end with one "
             "line, \"VERDICT: true\" for yes or \"VERDICT: false\" for no.")
    return words if isinstance(problem.prompt, str) else (Message("user", words),)


def read_verdict(generated: str) -> bool | None:
    """The last verdict in a generated text; None where it gives none."""
    found = _VERDICT.findall(generated)
    return found[-1].lower() == "true" if found else None


def question_room(policy: Policy, problems: Sequence[Problem], max_tokens: int, sampling: Sampling) -> int:
    """Tokens that are kept for a question about an answer of up to `max_tokens`.

    Raises:
      ValueError: the policy's language has not the words, or its context not the room.
    """
    encode = policy.tokenizer.encode_prompt
    try:
        longest = max(len(encode(check_prompt(problem, "", check))) for problem in problems for check in WEIGHTS)
    except ValueError as error:
        raise ValueError(f"latent.reward='self' asks the policy in words, which it has not: {error}") from error
    # A solution is encoded from its text; that it takes more tokens than twice those it was made of is unheard of.
    room = longest + 2 * max_tokens
    if room + sampling.max_tokens > policy.config.context:
        raise ValueError(f"a check of an answer has up to {room} tokens and {sampling.max_tokens} of its own "
                         f"(latent.checks.max_tokens); the model was made for {policy.config.context}")
    return room


class SelfChecks:
    """The reward: less a check's weight for each that does not approve, over the sum of the weights. No verdict is
    no approval.

    Attributes:
      counts: "asked" and "silent" checks so far, and under each check's name how many approved.

    Args:
      problems: all that will be judged; they say how long a question can be.
      sampling: how checks are answered, with the most tokens of one.
      key: of the checks, where they are drawn; each problem, answer and check has its own.
      batch: checks answered at once.
      penalty: a further weight off for an answer that is not `readable` (the published code's option has 2).

    Raises:
      ValueError: see `question_room`.
    """

    def __init__(self, policy: Policy, parameters: Parameters, problems: Sequence[Problem], *, max_tokens: int,
                 sampling: Sampling, key: jax.Array, batch: int, penalty: float = 0.0,
                 readable: Callable[[Problem, str], bool] = lambda problem, text: True):
        self._parameters, self._sampling, self._key, self._batch = parameters, sampling, key, batch
        self._penalty, self._readable = penalty, readable
        self.counts: collections.Counter[str] = collections.Counter()
        room = question_room(policy, problems, max_tokens, sampling)
        self._policy = Policy(policy.config, policy.tokenizer, room, policy.engine)

    def __call__(self, answered: Answered) -> Scores:
        """Rewards in [-1, 0], or below by the penalty; NaN where a question does not fit."""
        fits = np.asarray([self._fits(*pair) for pair in zip(answered.problems, answered.texts, strict=True)])
        asked = [(row, check) for row in np.flatnonzero(fits).tolist() for check in WEIGHTS]
        questions = [Problem(f"{answered.problems[row].id}/{answered.numbers[row]}/{check}",
                             check_prompt(answered.problems[row], answered.texts[row], check), None, "check")
                     for row, check in asked]
        lost, tokens = np.where(fits, 0.0, np.nan), np.zeros(len(fits), np.int64)
        for (row, check), (text, length) in zip(asked, self._answers(questions), strict=True):
            approved = self._count(check, read_verdict(text))
            lost[row] += 0 if approved else WEIGHTS[check]
            tokens[row] += length
        for row, (problem, text) in enumerate(zip(answered.problems, answered.texts, strict=True)):
            lost[row] += 0 if not self._penalty or self._readable(problem, text) else self._penalty
        return Scores(-lost / sum(WEIGHTS.values()), tokens)

    def described(self) -> str:
        """What became of the checks so far, in a line."""
        asked = max(1, self.counts["asked"])
        approved = ", ".join(f"{name} {400 * self.counts[name] / asked:.0f} %" for name in WEIGHTS)
        return f"{self.counts['asked']} checks, {self.counts['silent']} without a verdict; approved: {approved}"

    def _fits(self, problem: Problem, text: str) -> bool:
        return max(len(self._policy.tokenizer.encode_prompt(check_prompt(problem, text, check)))
                   for check in WEIGHTS) <= self._policy.prompt_tokens

    def _count(self, check: str, verdict: bool | None) -> bool:
        self.counts.update({"asked": 1, "silent": verdict is None, check: verdict is True})
        return verdict is True

    def _answers(self, questions: Sequence[Problem]) -> list[tuple[str, int]]:
        """The generated text and its tokens for each question."""
        found = []
        for start in range(0, len(questions), self._batch):
            chunk = list(questions[start:start + self._batch])
            padded = chunk + [chunk[-1]] * (self._batch - len(chunk))  # one shape is compiled
            _, made = sample(self._policy, self._parameters, padded, range(1), self._key, self._sampling)
            rows = zip(made.ids[:len(chunk), 0], made.lengths[:len(chunk), 0], strict=True)
            found += [(self._policy.decode(ids, length), int(length)) for ids, length in rows]
        return found
