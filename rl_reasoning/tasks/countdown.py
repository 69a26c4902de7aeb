"""Countdown: reach a target from k numbers in k - 1 steps, every number used once.

A prompt reads `3 5 7 > 26 :`, an answer `3 * 7 = 21 21 + 5 = 26`. Several answers are right, so a
policy can be right and diverse at once.
"""

import functools
import itertools
import random
from collections.abc import Sequence

from rl_reasoning.config import Countdown as Settings
from rl_reasoning.tasks import choose, is_held_out
from rl_reasoning.tokenizers.symbols import SymbolTokenizer
from rl_reasoning.types import Outcome, Problem, Verdict

_OPERATIONS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a // b if b and a % b == 0 else None,
}


class Countdown:
    """The task at given sizes.

    Numbers are drawn from low..high with repetition, and every value on the way lies in 0..limit.
    A problem is a set of numbers with a target of at least 1 that they reach.

    Raises:
      ValueError: an unknown operation, or numbers beyond the limit.
    """

    name = "countdown"
    in_process = True

    def __init__(self, settings: Settings):
        unknown = set(settings.operations) - set(_OPERATIONS)
        if unknown or not settings.operations:
            raise ValueError(f"task.countdown.operations={settings.operations!r} must be some of + - * /")
        if not settings.low <= settings.high <= settings.limit:
            raise ValueError(f"task.countdown needs low <= high <= limit; got {settings.low}, {settings.high}, "
                             f"{settings.limit}")
        self.settings = settings

    def tokenizer(self) -> SymbolTokenizer:
        """One token a number, an operation or a sign."""
        numbers = [str(value) for value in range(self.settings.limit + 1)]
        return SymbolTokenizer([*numbers, *self.settings.operations, "=", ">", ":"])

    @property
    def longest_answer(self) -> int:
        """Tokens of a full answer with its end of sequence."""
        return 5 * (self.settings.numbers - 1) + 1

    @functools.cached_property
    def _problems(self) -> tuple[Problem, ...]:
        """Every problem there is, in a fixed order."""
        values = range(self.settings.low, self.settings.high + 1)
        sets = itertools.combinations_with_replacement(values, self.settings.numbers)
        return tuple(self.problem(_shuffled(numbers, target), target) for numbers in sets
                     for target in _in_order(self._reachable(numbers)) if target >= 1)

    def _reachable(self, numbers: Sequence[int]) -> frozenset[int]:
        """Values that all the numbers, each used once, can give."""
        return _reachable(tuple(sorted(numbers)), self.settings.operations, self.settings.limit)

    def problem(self, numbers: Sequence[int], target: int) -> Problem:
        """The problem of these numbers and this target; its id ignores the numbers' order."""
        return Problem(id=_identity(sorted(numbers), target), prompt=self._prompt(numbers, target), answer=target,
                       task=self.name, metadata={"numbers": tuple(numbers)})

    def _prompt(self, numbers: Sequence[int], target: int) -> str:
        return f"{' '.join(map(str, numbers))} > {target} :"

    def train_problems(self) -> Sequence[Problem]:
        """Problems that the hash of (sorted numbers, target) leaves for training."""
        return tuple(p for p in self._problems if not is_held_out(p.id, self.settings.held_out))

    def held_out_problems(self, count: int, seed: int) -> tuple[Problem, ...]:
        """Problems that neither warm start nor RL ever sees. Raises ValueError when there are too few."""
        held_out = [p for p in self._problems if is_held_out(p.id, self.settings.held_out)]
        return choose(held_out, count, seed, self.name)

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Right when the steps are true, use every number once, and end at the target."""
        words = text.split()
        steps = [words[i:i + 5] for i in range(0, len(words), 5)]
        malformed = next((step for step in steps if not self._well_formed(step)), None)
        if not words or malformed is not None or len(steps) != self.settings.numbers - 1:
            return Verdict(Outcome.UNPARSABLE, 0.0, None,
                           f"not {self.settings.numbers - 1} steps of the form a op b = c")
        fault = self._fault(problem, steps)
        if fault:
            return Verdict(Outcome.WRONG, 0.0, steps[-1][4], fault)
        return Verdict(Outcome.RIGHT, 1.0, steps[-1][4], f"reaches {problem.answer}")

    def _well_formed(self, step: list[str]) -> bool:
        """Numbers have at most six ASCII digits, so that int() stays cheap on any text."""
        return (len(step) == 5 and step[1] in self.settings.operations and len(step[1]) == 1 and step[3] == "="
                and all(len(word) <= 6 and word.isascii() and word.isdigit() for word in step[::2]))

    def _fault(self, problem: Problem, steps: list[list[str]]) -> str | None:
        """What is wrong with well-formed steps, or None."""
        left = list(problem.metadata["numbers"])
        for a, operation, b, _, c in steps:
            for number in (int(a), int(b)):
                if number not in left:
                    return f"{number} is not there to be used"
                left.remove(number)
            if _OPERATIONS[operation](int(a), int(b)) != int(c):
                return f"{a} {operation} {b} is not {c}"
            left.append(int(c))
        return None if left == [problem.answer] else f"ends at {left[-1]} and not at {problem.answer}"

    def _is_held_out(self, numbers: Sequence[int], target: int) -> bool:
        return _held_out(tuple(sorted(numbers)), target, self.settings.held_out)

    def traces(self, rng: random.Random, count: int, wrong: float) -> list[tuple[str, str]]:
        """Random (prompt, answer) pairs for a warm start, none of them of a held-out problem.

        The target is where random valid steps led; with probability `wrong` it is drawn from all values that the
        same numbers reach, so that the trace is plausible and mostly does not solve its prompt.
        """
        pairs: list[tuple[str, str]] = []
        while len(pairs) < count:
            numbers = [rng.randint(self.settings.low, self.settings.high) for _ in range(self.settings.numbers)]
            answer, target = self._random_steps(rng, numbers)
            if answer and rng.random() < wrong:
                target = rng.choice(_in_order(self._reachable(numbers)))
            if answer and target >= 1 and not self._is_held_out(numbers, target):
                pairs.append((self._prompt(numbers, target), answer))
        return pairs

    def _random_steps(self, rng: random.Random, numbers: list[int]) -> tuple[str, int]:
        """Random steps that use every number, and where they end; an empty text when they leave the range."""
        left, text = list(numbers), []
        while len(left) > 1:
            a, b = (left.pop(rng.randrange(len(left))) for _ in range(2))
            operation = rng.choice(self.settings.operations)
            value = _OPERATIONS[operation](a, b)
            if value is None or not 0 <= value <= self.settings.limit:
                return "", 0
            text.append(f"{a} {operation} {b} = {value}")
            left.append(value)
        return " ".join(text), left[0]


@functools.cache
def _reachable(numbers: tuple[int, ...], operations: str, limit: int) -> frozenset[int]:
    if len(numbers) == 1:
        return frozenset(numbers)
    values: set[int] = set()
    for i, j in itertools.permutations(range(len(numbers)), 2):
        rest = [numbers[k] for k in range(len(numbers)) if k not in (i, j)]
        for operation in operations:
            value = _OPERATIONS[operation](numbers[i], numbers[j])
            if value is not None and 0 <= value <= limit:
                values |= _reachable(tuple(sorted([*rest, value])), operations, limit)
    return frozenset(values)


def _shuffled(numbers: Sequence[int], target: int) -> tuple[int, ...]:
    """The order in which a prompt lists the numbers: any order is a problem, this one is always the same."""
    return tuple(random.Random(_identity(numbers, target)).sample(numbers, len(numbers)))


@functools.cache
def _in_order(values: frozenset[int]) -> tuple[int, ...]:
    return tuple(sorted(values))


def _identity(ordered: Sequence[int], target: int) -> str:
    return f"countdown {' '.join(map(str, ordered))} > {target}"


@functools.cache
def _held_out(ordered: tuple[int, ...], target: int, share: float) -> bool:
    return is_held_out(_identity(ordered, target), share)
