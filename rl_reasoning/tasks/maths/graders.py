"""The graders: each says whether an answer is the problem's answer, both as they were written.

`exact` compares spellings, `math_verify` (the default) adds exact numbers, units, shapes and computer algebra,
`is_equiv` and `math_equal` are a paper's own rules. None of them has a deadline: run them in a process that can
be ended.
"""

from collections.abc import Callable

from rl_reasoning.tasks.maths import algebra, published
from rl_reasoning.tasks.maths.guards import refuse
from rl_reasoning.tasks.maths.numbers import read_literal
from rl_reasoning.tasks.maths.shapes import Shape, agree, read_shape
from rl_reasoning.tasks.maths.spelling import canonical, clean
from rl_reasoning.tasks.maths.values import compare
from rl_reasoning.types import Outcome

MOST_CHARACTERS = 1_000

Grader = Callable[[str, str], Outcome]


def exact(gold: str, answer: str) -> Outcome:
    """RIGHT when the answers are one text up to spelling."""
    return _outcome(canonical(clean(gold)) == canonical(clean(answer)))


def math_verify(gold: str, answer: str) -> Outcome:
    """RIGHT when the answers have one shape and equal values; text and exact numbers first, then math-verify.

    Raises:
      ImportError: math-verify is needed and not installed.
      ValueError: the gold answer is an expression that cannot be read.
    """
    return _by_shape(gold, answer, algebra.equal)


def cheap(gold: str, answer: str) -> Outcome | None:
    """What `math_verify` says without computer algebra; None when it takes that."""
    needed: list[tuple[str, str]] = []

    def note(gold: str, answer: str) -> bool:
        needed.append((gold, answer))
        return False

    found = _by_shape(gold, answer, note)
    return None if needed else found


def is_equiv(gold: str, answer: str) -> Outcome:
    """`published.is_equiv`."""
    return _outcome(published.is_equiv(gold, answer))


def math_equal(gold: str, answer: str) -> Outcome:
    """`published.math_equal`, on answers normalised by `published.strip_string` as in the evaluation."""
    found = published.math_equal(published.strip_string(gold, keep_lines=True),
                                 published.strip_string(answer, keep_lines=True))
    return Outcome.UNPARSABLE if found is None else _outcome(found)


GRADERS: dict[str, Grader] = {
    "exact": exact, "math_verify": math_verify, "is_equiv": is_equiv, "math_equal": math_equal}


def load(*names: str) -> None:
    """Imports what the graders need, so that no answer's deadline pays for it. Raises ImportError."""
    if {"math_verify", "math_equal"} & set(names):
        algebra.equal("x", "y")


def grade(name: str, gold: str, answer: str) -> Outcome:
    """What the grader `name` says of an answer.

    Rules that stand before every grader, the published ones too: an answer of more than `MOST_CHARACTERS` is
    UNPARSABLE; several candidates for one value are WRONG, be they `0 or 1` or `6 = 7`.
    """
    if len(answer) > MOST_CHARACTERS:
        return Outcome.UNPARSABLE
    try:
        wanted, found = read_shape(gold), read_shape(answer)
    except ValueError:
        return Outcome.UNPARSABLE
    if wanted.kind == "value" and (found.kind in ("list", "set") or _equates_numbers(wanted, found)):
        return Outcome.WRONG
    return GRADERS[name](gold, answer)


def _equates_numbers(gold: Shape, answer: Shape) -> bool:
    """Whether an answer like 6 = 7 meets a gold answer that is no equation."""
    if answer.kind != "value" or "=" in gold.text:
        return False
    left, equals, _ = answer.text.partition("=")
    return bool(equals) and read_literal(left) is not None


def _by_shape(gold: str, answer: str, equal: Callable[[str, str], bool | None]) -> Outcome:
    wanted = read_shape(gold)
    try:
        found = read_shape(answer, thousands=wanted.kind != "list")
    except ValueError:
        return Outcome.UNPARSABLE
    if _solved(wanted, found) or _solved(found, wanted):
        return _relation(clean(gold), clean(answer), equal)
    return agree(wanted, found, lambda one, other: compare(one, other, equal))


def _solved(one: Shape, other: Shape) -> bool:
    """Whether one is an inequality and the other an interval or a union of some."""
    inequality = one.kind == "value" and any(mark in one.text for mark in ("<", ">", r"\leq", r"\geq"))
    return inequality and other.kind in ("()", "[]", "(]", "[)", "union")


def _relation(gold: str, answer: str, equal: Callable[[str, str], bool | None]) -> Outcome:
    if refuse(gold) or refuse(answer):
        return Outcome.UNPARSABLE
    found = equal(gold, answer)
    return Outcome.UNPARSABLE if found is None else _outcome(found)


def _outcome(right: bool) -> Outcome:
    return Outcome.RIGHT if right else Outcome.WRONG
