r"""The graders of RLVR-Decomposed (arXiv 2506.01347), by their rules and in this project's words.

`is_equiv` scored training and validation: both answers are brought to one spelling by the rules of the MATH
benchmark (Hendrycks et al. 2021) and compared as text. `math_equal` scored the evaluation: numbers within a
relative 1e-4, a percentage as its number, a hundredth or a hundredfold of it, lists and matrices item by item,
and algebra. They are here so that published numbers can be compared; both are more lenient than `math_verify`
in some ways and stricter in others.
"""

import math
import re
from typing import Any

from rl_reasoning.tasks.maths import algebra
from rl_reasoning.tasks.maths.guards import refuse
from rl_reasoning.tasks.maths.spelling import clean

RELATIVE_TOLERANCE = 1e-4
MOST_NESTED = 6

_REMOVED = ("\n", r"\!", r"\left", r"\right", r"^{\circ}", r"^\circ", r"\$", r"\%", "%", " ")
_NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_MATRIX = re.compile(r"\\begin\{[pb]matrix\}(.*)\\end\{[pb]matrix\}", re.DOTALL)
_BRACKETED = re.compile(r"[(\[].+[)\]]", re.DOTALL)


def is_equiv(gold: str, answer: str) -> bool:
    """Equal after both went through `strip_string`."""
    return strip_string(gold) == strip_string(answer)


def strip_string(text: str, *, keep_lines: bool = False) -> str:
    r"""MATH's normal form: no spaces, degrees, dollars, percent signs or units; braces in `\frac{a}{b}`, `\sqrt{a}`.

    A unit is what follows one `\text{ `; `x = ` goes when the name has one or two letters; 0.5 and a/b of
    integers become fractions.

    Args:
      keep_lines: leave the line breaks of a matrix, as the evaluation does; the training makes them one backslash.
    """
    text = text if keep_lines else text.replace("\\\\", "\\")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac")
    text = _without_unit(text)
    for mark in _REMOVED[:-1]:
        text = text.replace(mark, "")
    text = text.replace(" .", " 0.").replace("{.", "{0.")
    if text.startswith("."):
        text = "0" + text
    left, equals, right = text.partition("=")
    if equals and "=" not in right and len(left.strip()) <= 2:
        text = right.strip()
    text = re.sub(r"\\sqrt ?(\w)", r"\\sqrt{\1}", text).replace(" ", "")
    text = _with_braces(text)
    if text == "0.5":
        return r"\frac{1}{2}"
    return re.sub(r"(-?\d+)/(-?\d+)", r"\\frac{\1}{\2}", text) if re.fullmatch(r"-?\d+/-?\d+", text) else text


def math_equal(gold: str, answer: str, nested: int = 0) -> bool | None:
    """Equal by the evaluation's rules; None when an answer is too large to evaluate."""
    gold, answer = gold.strip().replace(" ", ""), answer.strip().replace(" ", "")
    if gold.lower() == answer.lower():
        return True
    if gold in tuple("ABCDE") and re.sub(r"[^A-E]", "", answer.upper()) == gold:
        return bool(re.fullmatch(r"[\W_]*(?:\\text\{?)?[\W_]*[A-Ea-e][\W_]*", answer))
    number, found = _read_number(gold), _read_number(answer)
    if number is not None and found is not None:
        return any(math.isclose(found, wanted, rel_tol=RELATIVE_TOLERANCE)
                   for wanted in (number / 100, number, number * 100))
    if not answer or nested > MOST_NESTED:
        return False
    if _bare(gold) == _bare(answer):
        return True
    return _by_parts(gold, answer, nested)


def _by_parts(gold: str, answer: str, nested: int) -> bool | None:
    """Lists and matrices item by item, equations by their difference, the rest by algebra."""
    matrix, other_matrix = _MATRIX.fullmatch(gold), _MATRIX.fullmatch(answer)
    if matrix and other_matrix:
        return _all_equal(re.split(r"\\\\|&", matrix[1]), re.split(r"\\\\|&", other_matrix[1]), nested)
    if all(_BRACKETED.fullmatch(text) for text in (gold, answer)):
        parts = [text[1:-1].split(",") for text in (gold, answer)]
        if len(parts[0]) > 1 or len(parts[1]) > 1:
            return _all_equal(parts[0], parts[1], nested)
    sides = [text.split("=") for text in (gold, answer)]
    if len(sides[0]) == len(sides[1]) == 2:
        one, other = (f"{left}-({right})" for left, right in sides)
        return _symbolic(one, other) or _symbolic(f"-({one})", other)
    for this, that in ((sides[0], answer), (sides[1], gold)):
        if len(this) == 2 and len(this[0]) <= 2 and "=" not in that:
            pair = (this[1], that) if that is answer else (that, this[1])
            return math_equal(*pair, nested + 1)
    return _symbolic(gold, answer)


def _all_equal(gold: list[str], answer: list[str], nested: int) -> bool | None:
    if len(gold) != len(answer):
        return False
    found = [math_equal(one, other, nested + 1) for one, other in zip(gold, answer, strict=True)]
    return False if False in found else None if None in found else True


def _symbolic(gold: str, answer: str) -> bool | None:
    gold, answer = clean(gold), clean(answer)
    if refuse(gold) or refuse(answer):
        return None
    wanted, found = algebra.parse(gold), algebra.parse(answer)
    if wanted is None or found is None:
        return False
    return bool(algebra.equal(gold, answer)) or _close(wanted, found)


def _close(gold: Any, answer: Any) -> bool:
    """Whether two expressions without variables have values within the tolerance."""
    values = []
    for expression in (gold, answer):
        if not getattr(expression, "is_number", False):
            return False
        value = complex(expression)
        if value.imag:
            return False
        values.append(value.real)
    return math.isclose(values[1], values[0], rel_tol=RELATIVE_TOLERANCE)


def _read_number(text: str) -> float | None:
    text = text.replace(",", "")
    percent = text.endswith("%")
    text = text.removesuffix("%").removesuffix("\\") if percent else text
    if len(text) > 300 or not _NUMBER.fullmatch(text):
        return None
    return float(text) / 100 if percent else float(text)


def _bare(text: str) -> str:
    """Without brackets of any kind, for `{1,2}` against `(1,2)`."""
    return text.translate(str.maketrans("", "", "{}()[]")).lower() if text[:1] in "([{" else text.lower()


def _without_unit(text: str) -> str:
    parts = text.split(r"\text{ ")
    return parts[0] if len(parts) == 2 else text


def _with_braces(text: str) -> str:
    r"""`\frac12` and `\frac1{72}` with braces around both."""
    text = re.sub(r"\\frac([^\\{}])([^\\{}])", r"\\frac{\1}{\2}", text)
    return re.sub(r"\\frac([^\\{}])(?=\{)", r"\\frac{\1}", text)


