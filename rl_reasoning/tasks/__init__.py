"""Problems and their verifiers. Plain Python, no jax: a verifier process must start in milliseconds."""

import random
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from rl_reasoning.tokenizers.pieces import PieceTokenizer
from rl_reasoning.tokenizers.symbols import SymbolTokenizer
from rl_reasoning.types import Message, Outcome, Problem, Verdict

Verify = Callable[[Problem, str], Verdict]


class Task(Protocol):
    """What the loop asks of a task: two disjoint sets of problems, and a word on any text.

    Attributes:
      in_process: True when `verify` takes microseconds, whatever the text: it then runs in the training process.
        A task without it is pickled once into a pool of worker processes, and only its `verify` runs there.
    """

    @property
    def name(self) -> str:
        """Stands in problems and samples."""
        ...

    @property
    def in_process(self) -> bool:
        """Whether `verify` may run in the training process."""
        ...

    def train_problems(self) -> Sequence[Problem]:
        """All problems that may be trained on."""
        ...

    def held_out_problems(self, count: int, seed: int) -> tuple[Problem, ...]:
        """`count` distinct problems that are never trained on. Raises ValueError when there are too few."""
        ...

    def verify(self, problem: Problem, text: str) -> Verdict:
        """A verdict on any text whatever."""
        ...


@runtime_checkable
class Language(Task, Protocol):
    """A task in a small language of its own, in which a policy can be trained from nothing.

    Attributes:
      longest_answer: tokens of the longest trace's answer with its end of sequence.
    """

    @property
    def longest_answer(self) -> int:
        """Tokens of the longest trace's answer."""
        ...

    def tokenizer(self) -> SymbolTokenizer | PieceTokenizer:
        """One token a word of the language."""
        ...

    def traces(self, rng: random.Random, count: int, wrong: float) -> list[tuple[str | tuple[Message, ...], str]]:
        """(prompt, answer) pairs for a warm start, a share of them `wrong`, none of a held-out problem."""
        ...


def verify(task: Task, problem: Problem, text: str) -> Verdict:
    """The task's verdict; a verifier that raises gives CRASH, which no one can mistake for a wrong answer."""
    try:
        return task.verify(problem, text)
    except Exception as error:
        return crashed(error)


def crashed(error: Exception) -> Verdict:
    """The unscorable verdict of a verifier that raised."""
    return Verdict(Outcome.CRASH, float("nan"), None, f"the verifier raised {type(error).__name__}: {error}")


def choose(problems: Sequence[Problem], count: int, seed: int, name: str) -> tuple[Problem, ...]:
    """`count` of the problems, in an order that depends on their ids and the seed alone.

    Raises:
      ValueError: fewer problems than asked for.
    """
    if count > len(problems):
        raise ValueError(f"{name} has {len(problems)} held-out problems and {count} were asked for: lower "
                         f"evaluation.problems, or raise task.{name}.held_out or the task's ranges")
    ordered = sorted(problems, key=lambda p: Problem(f"{seed}/{p.id}", "", None, name).number)
    return tuple(ordered[:count])


def is_held_out(problem_id: str, share: float) -> bool:
    """Whether the hash of an id puts the problem on the held-out side."""
    return Problem(problem_id, "", None, "").number < share * 2**31
