"""Sums with a chat prompt: problems of reasoning-gym's chain_sum, answered in \\boxed{...}.

A prompt shows two worked sums in the form that an answer should have; without them a small model seldom
uses the box, and a form that restates the sum helps it most. The sums that are shown are never problems.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence

from rl_reasoning import config
from rl_reasoning.tasks import is_held_out
from rl_reasoning.tasks.boxed import last_boxed
from rl_reasoning.types import Message, Outcome, Problem, Verdict

SHOTS = (("35 + 86", 121), ("52 - 17", 35))
TRAIN_PROBLEMS = 512
MOST_DIGITS = 20
MOST_DRAWS = 1_000_000

_INTEGER = re.compile(r"([+-]?) ?([0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)(?:\.0*)?")
_WRAPPERS = (("{", "}"), ("(", ")"), ("[", "]"), ("$", "$"), (r"\(", r"\)"), (r"\{", r"\}"), (r"\text{", "}"),
             (r"\boxed{", "}"))


class Arithmetic:
    """Chains of + and - over whole numbers.

    Problems are the distinct sums of the generator's stream, in its order; sums of one-digit numbers, which
    the stream repeats, are therefore rarer than in it. Whether a sum is held out depends on a hash of its text
    alone, so training and held-out problems cannot meet, whatever the seed.

    Raises ValueError when `digits_low` is more than `digits_high`.
    """

    name = "arithmetic"
    in_process = True

    def __init__(self, settings: config.Arithmetic):
        if settings.digits_low > settings.digits_high:
            raise ValueError(f"task.arithmetic.digits_low={settings.digits_low} is more than "
                             f"digits_high={settings.digits_high}")
        self._settings = settings

    def train_problems(self) -> Sequence[Problem]:
        """The first `TRAIN_PROBLEMS` distinct problems that are not held out, or all where there are fewer.

        Raises ImportError when reasoning-gym is not installed.
        """
        return self._draw("train", TRAIN_PROBLEMS, held_out=False)

    def held_out_problems(self, count: int, seed: int) -> tuple[Problem, ...]:
        """`count` distinct held-out problems, the same for the same seed.

        Raises:
          ValueError: fewer exist.
          ImportError: reasoning-gym is not installed.
        """
        share = self._settings.held_out
        problems = self._draw(f"held out {seed}", count, held_out=True)
        if len(problems) < count:
            raise ValueError(f"{count} held-out problems asked for, and {len(problems)} exist with held_out={share}, "
                             f"terms={self._settings.terms}, digits_low={self._settings.digits_low}, "
                             f"digits_high={self._settings.digits_high}; ask for fewer, or raise one of these")
        return problems

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Compares the integer in the last box of an answer with the problem's.

        Never raises and takes time linear in the text, whatever it holds. No box, or no integer in it, is
        UNPARSABLE. Signs, thousands separators, leading zeros, a zero fraction and brackets around the number
        are understood; an expression or a list of numbers is not an integer.
        """
        content = last_boxed(text)
        if content is None:
            return Verdict(Outcome.UNPARSABLE, 0.0, None, r"no closed \boxed{...} at the end of the answer")
        match = _INTEGER.fullmatch(_unwrap(content))
        if match is None:
            return Verdict(Outcome.UNPARSABLE, 0.0, None, f"the box holds {content[:40]!r}, which is no integer")
        digits = match[2].replace(",", "")
        if len(digits) > MOST_DIGITS:
            return Verdict(Outcome.WRONG, 0.0, None, f"the box holds more than {MOST_DIGITS} digits")
        value = int(match[1] + digits)
        if value == problem.answer:
            return Verdict(Outcome.RIGHT, 1.0, str(value), f"{value} is the answer")
        return Verdict(Outcome.WRONG, 0.0, str(value), f"{value} is not the answer {problem.answer}")

    def _draw(self, stream: str, count: int, *, held_out: bool) -> tuple[Problem, ...]:
        """Distinct problems of one side of the split, in stream order; stops when all sums were seen."""
        total = _distinct_sums(self._settings)
        seen: set[str] = set()
        problems: list[Problem] = []
        shown = {expression for expression, _ in SHOTS}
        for expression, answer in _sums(self._settings, stream):
            if len(problems) == count or len(seen) == total:
                break
            fresh = expression not in seen and expression not in shown
            if fresh and is_held_out(_identity(expression), self._settings.held_out) == held_out:
                problems.append(_problem(expression, answer))
            seen.add(expression)
        return tuple(problems)


def _sums(settings: config.Arithmetic, stream: str) -> Iterator[tuple[str, int]]:
    """Up to `MOST_DRAWS` (expression, result) of reasoning-gym's generator; streams of other names are unrelated."""
    try:
        import reasoning_gym
    except ImportError as error:
        raise ImportError("the arithmetic task needs reasoning-gym: pip install -e '.[lm]'") from error
    # The generator seeds item i with seed + i, so that neighbouring seeds would share nearly all items.
    seed = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8])
    items = reasoning_gym.create_dataset(
        "chain_sum", min_terms=settings.terms, max_terms=settings.terms, min_digits=settings.digits_low,
        max_digits=settings.digits_high, seed=seed, size=MOST_DRAWS)
    for index in range(MOST_DRAWS):
        item = items[index]
        yield item["metadata"]["expression"], int(item["answer"])


def _distinct_sums(settings: config.Arithmetic) -> int:
    """How many sums there are: all numbers of a sum have the same count of digits; 0 is a one-digit number."""
    numbers = [10 if digits == 1 else 9 * 10 ** (digits - 1)
               for digits in range(settings.digits_low, settings.digits_high + 1)]
    return sum(count ** settings.terms for count in numbers) * 2 ** (settings.terms - 1)


def _identity(expression: str) -> str:
    return f"arithmetic:{expression.replace(' ', '')}"


def _problem(expression: str, answer: int) -> Problem:
    turns = [Message(role, content) for shot, result in SHOTS
             for role, content in (("user", f"{shot} = ?"), ("assistant", f"{shot} = {result}\n\\boxed{{{result}}}"))]
    return Problem(id=_identity(expression), task="arithmetic", answer=answer,
                   prompt=(*turns, Message("user", f"{expression} = ?")), metadata={"expression": expression})


def _unwrap(content: str) -> str:
    """The inside of up to four layers of brackets, with one kind of minus and of thousands separator."""
    content = content.replace(r"\!", "").replace(r"\,", ",").replace("{,}", ",")
    content = content.replace("\N{MINUS SIGN}", "-").strip()
    for _ in range(4):
        for left, right in _WRAPPERS:
            if content.startswith(left) and content.endswith(right) and len(content) > len(left):
                content = content[len(left):-len(right)].strip()
                break
    return content
