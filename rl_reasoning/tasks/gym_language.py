"""A generator of reasoning-gym as a small language of its own, in which a policy can be trained from nothing."""

import functools
import random
from collections.abc import Sequence

from rl_reasoning.config import Gym as Settings
from rl_reasoning.tasks.gym import Gym
from rl_reasoning.tokenizers.pieces import PieceTokenizer, said
from rl_reasoning.types import Message, Problem, Verdict

SHOWN = 2048  # problems whose answers the warm start shows, or all that there are


class GymLanguage:
    """The problems of `Gym` with a tokenizer of their words and digits, and their own answers as traces.

    For generators whose questions come from few words, such as chain_sum and basic_arithmetic.

    Raises: as `Gym`.
    """

    name = Gym.name
    in_process = Gym.in_process

    def __init__(self, settings: Settings):
        self._settings = settings
        self._gym = Gym(settings)
        self.train_problems = functools.cache(self._gym.train_problems)
        self.held_out_problems = functools.cache(self._gym.held_out_problems)

    def __reduce__(self) -> tuple:
        """A copy makes its scorer itself, as `Gym` does."""
        return GymLanguage, (self._settings,)

    def verify(self, problem: Problem, text: str) -> Verdict:
        """See `Gym.verify`."""
        return self._gym.verify(problem, text)

    @functools.cached_property
    def _shown(self) -> Sequence[Problem]:
        """Problems of the training side, drawn for themselves."""
        return self._gym.draw("traces", SHOWN, held_out=False)

    @functools.cached_property
    def _tokenizer(self) -> PieceTokenizer:
        known = (*self.train_problems(), *self._shown)
        return PieceTokenizer([*(said(problem.prompt) for problem in known), *map(_answer, known)])

    def tokenizer(self) -> PieceTokenizer:
        """The pieces of all training problems and answers; a text with others is refused."""
        return self._tokenizer

    @property
    def longest_answer(self) -> int:
        """Tokens of the longest answer shown, with its end of sequence."""
        return 1 + max(len(self._tokenizer.encode(_answer(problem))) for problem in self._shown)

    def traces(self, rng: random.Random, count: int, wrong: float) -> list[tuple[str | tuple[Message, ...], str]]:
        """(prompt, answer) pairs for a warm start; with probability `wrong` the answer is another problem's."""
        return [(problem.prompt, _answer(rng.choice(self._shown) if rng.random() < wrong else problem))
                for problem in rng.choices(self._shown, k=count)]


def _answer(problem: Problem) -> str:
    return f"<answer>{problem.answer['answer']}</answer>"
