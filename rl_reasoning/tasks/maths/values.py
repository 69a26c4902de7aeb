"""Two values compared: as text, as exact numbers with units, and only then by a computer algebra system."""

import dataclasses
import re
from collections.abc import Callable

from rl_reasoning.tasks.maths.guards import refuse
from rl_reasoning.tasks.maths.numbers import Literal, read_literal, same
from rl_reasoning.tasks.maths.spelling import canonical
from rl_reasoning.types import Outcome

_ALIASES = {
    "degree": "degrees deg", "percent": "%", "dollar": "dollars usd bucks", "cent": "cents",
    "mm": "millimeter millimeters millimetre millimetres",
    "cm": "centimeter centimeters centimetre centimetres", "m": "meter meters metre metres",
    "km": "kilometer kilometers kilometre kilometres", "inch": "inches in", "foot": "feet ft", "yard": "yards yd",
    "mile": "miles mi", "second": "seconds sec secs s", "minute": "minutes min mins", "hour": "hours hr hrs h",
    "day": "days", "week": "weeks", "month": "months", "year": "years yr yrs", "gram": "grams g",
    "kg": "kilogram kilograms", "pound": "pounds lb lbs", "ounce": "ounces oz", "liter": "liters litre litres l",
    "ml": "milliliter milliliters millilitre millilitres", "gallon": "gallons gal", "mile/hour": "mph",
    "unit": "units", "square": "sq squared",  "person": "people persons", "child": "children",
}
_UNITS = {alias: unit for unit, aliases in _ALIASES.items() for alias in (unit, *aliases.split())}
_FUNCTIONS = frozenset(("sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "exp", "arcsin", "arccos", "arctan",
                        "sqrt", "gcd", "lcm", "max", "min", "mod", "pi"))
_UNIT_WORD = r"(?:[a-zA-Z]{2,}|[mgshlL])(?: ?\^ ?\{?[23]\}?)?"
_WITH_UNIT = re.compile(rf"(?P<value>.*?[\d)}}\]i.])(?: ?(?P<percent>%)"
                        rf"| (?P<unit>{_UNIT_WORD}(?:[ /-]{{1,3}}{_UNIT_WORD}){{0,2}}))", re.DOTALL)
_MONEY = re.compile(r"(?P<sign>-?) ?\\?\$ ?(?P<value>[\d.].*)", re.DOTALL)
_NAMED = re.compile(r"(?P<name>[a-zA-Z](?:_ ?\{?\w+\}?)?(?: ?\( ?[a-z](?:, ?[a-z])* ?\))?|\\[a-z]+|[a-zA-Z]+)"
                    r" ?= ?(?P<value>[^=<>]+)", re.DOTALL)
_BASED = re.compile(r"(?P<value>-?[0-9A-Za-z]+) ?_ ?\{? ?(?P<base>\d+) ?\}?")
_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}(?![a-zA-Z])")
_RELATION = re.compile(r"[=<>]|\\(?:leq|geq|neq?|lt|gt)(?![a-zA-Z])")


@dataclasses.dataclass(frozen=True)
class Value:
    """A value taken apart: `name = text unit`, in the base that a subscript gives."""

    name: str
    text: str
    unit: str
    base: str
    literal: Literal | None


def read_value(text: str) -> Value:
    """Takes a cleaned text apart; what is not there is ''."""
    name, unit, base = "", "", ""
    if match := _NAMED.fullmatch(text):
        name, text = canonical(match["name"]), match["value"].strip()
    if match := _MONEY.fullmatch(text):
        text, unit = match["sign"] + match["value"], "dollar"
    if (match := _WITH_UNIT.fullmatch(text)) and _measures(match):
        text, unit = match["value"].strip(), read_unit(match["percent"] or match["unit"])
    if match := _BASED.fullmatch(text):
        text, base = match["value"], match["base"]
    return Value(name, text, unit, base, None if base else read_literal(text))


def read_unit(text: str) -> str:
    """One name for a unit: `square centimeters`, `cm^2` and `sq cm` are the same."""
    text = re.sub(r" ?\^ ?\{?(\d)\}?", r"^\1", text.lower().strip())
    text = re.sub(r"([a-z%]+)", lambda word: _UNITS.get(word[0], word[0].removesuffix("s")), text)
    text = re.sub(r"square[ -]([a-z]+)", r"\1^2", re.sub(r"cubic[ -]([a-z]+)", r"\1^3", text))
    text = re.sub(r"([a-z]+) square$", r"\1^2", text)
    return re.sub(r" ?(?:/| per ) ?", "/", text)


def restates(answer: str, question: str) -> bool:
    """Whether a cleaned answer stands in a cleaned question as it is: then it is no answer, but the question."""
    wanted = answer.replace(" ", "")
    if len(wanted) < 3 or not re.search(r"[^\w.,]", wanted):
        return False
    spaced = " *".join(map(re.escape, wanted))
    return bool(re.search(rf"(?<![\w.{{}}^*/+\\-]){spaced}(?![\w{{}}^*/+\\-])", question, re.IGNORECASE))


def compare(gold: str, answer: str, algebra: Callable[[str, str], bool | None]) -> Outcome:
    """Whether two cleaned values are the same.

    A number is answered by a number: `2 + 3`, or the integral that the question asks for, is not `5`. Names,
    units and bases may be left out by one side; where both give one, they must agree. 50% answers 0.5 and 50.

    Args:
      algebra: decides what neither text nor exact numbers can; None when it cannot read the answer.
    """
    if canonical(gold) == canonical(answer):
        return Outcome.RIGHT
    one, other = read_value(gold), read_value(answer)
    renamed = bool(one.name and other.name and one.name != other.name)
    if (renamed and (one.literal or other.literal)) or not _same_unit(one, other):
        return Outcome.WRONG
    if not renamed and canonical(one.text) == canonical(other.text):
        return Outcome.RIGHT if one.base == other.base or not other.base else Outcome.WRONG
    if one.base or other.base:
        return Outcome.WRONG
    if one.literal:
        return _compare_numbers(one, other)
    if _textual(one.text) or _textual(other.text):
        return Outcome.WRONG
    return _by_algebra(gold, answer, one, other, algebra)


def _compare_numbers(gold: Value, answer: Value) -> Outcome:
    number, found = gold.literal, answer.literal
    if number is None or found is None:
        return Outcome.WRONG
    if same(number, found):
        return Outcome.RIGHT
    if (gold.unit == "percent") == (answer.unit == "percent"):
        return Outcome.WRONG
    percent, plain = (number, found) if gold.unit == "percent" else (found, number)
    return Outcome.RIGHT if percent.value == 100 * plain.value else Outcome.WRONG


def _by_algebra(gold: str, answer: str, one: Value, other: Value,
                algebra: Callable[[str, str], bool | None]) -> Outcome:
    relations = [bool(_RELATION.search(text)) for text in (gold, answer)]
    if all(relations) and (one.name == "" or one.name != other.name):
        texts = gold, answer
    elif any(_RELATION.search(value.text) for value in (one, other)):
        return Outcome.WRONG
    else:
        texts = one.text, other.text
    if refuse(texts[1]) or refuse(texts[0]):
        return Outcome.UNPARSABLE
    found = algebra(*texts)
    return Outcome.UNPARSABLE if found is None else Outcome.RIGHT if found else Outcome.WRONG


def _same_unit(gold: Value, answer: Value) -> bool:
    if not gold.unit or not answer.unit or gold.unit == answer.unit:
        return True
    return "unit" in (gold.unit.split("^")[0], answer.unit.split("^")[0])


def _measures(match: re.Match[str]) -> bool:
    """Whether what was split off is a unit: words after something with a digit or a constant in it."""
    words = {word.lower() for word in re.findall(r"[a-zA-Z]+", match["unit"] or "")}
    counted = re.search(r"\d|\\pi(?![a-z])", match["value"])
    return bool(counted) and not _FUNCTIONS & (words - {"min", "sec"})


def _textual(text: str) -> bool:
    """Whether a text is compared as text only: a word is no product of letters, and 3:30 and 1:2 are no quotients."""
    plain = re.sub(r"\\[a-zA-Z]+", " ", text)
    return ":" in text or any((len(word) > 2 or word.isupper()) and word.lower() not in _FUNCTIONS
                              for word in _WORD.findall(plain))
