"""Numbers as literals: what needs no algebra is read exactly, as a fraction."""

import dataclasses
import re
from fractions import Fraction

MOST_DIGITS = 60
MOST_EXPONENT = 60
ROUNDED_DIGITS = 6

_DECIMAL = r"(?:\d+(?:\.\d*)?|\.\d+)"
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", re.ASCII)
_LITERAL = re.compile(
    rf"(?P<sign>[+-]?) ?(?:(?P<whole>\d+)(?: ?(?=\\frac)| (?=\d+/)))?"
    rf"(?:\\frac ?\{{ ?(?P<minus>-?) ?(?P<top>{_DECIMAL}) ?\}} ?\{{ ?(?P<bottom>{_DECIMAL}) ?\}}"
    rf"|\(?(?P<over>{_DECIMAL})\)? ?/ ?\(?(?P<under>{_DECIMAL})\)?"
    rf"|(?P<plain>{_DECIMAL})(?: ?(?:\\times|\\cdot|\*|x) ?10 ?\^ ?\{{?(?P<exponent>[+-]?\d{{1,4}})\}}?"
    rf"|[eE](?P<e>[+-]?\d{{1,4}}))?)", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Literal:
    """A rational number as it was written; `places` counts the digits after the point, 0 when there is none."""

    value: Fraction
    places: int


def read_literal(text: str) -> Literal | None:
    r"""An integer, a decimal, a fraction, a mixed number or a power of ten in cleaned LaTeX; else None.

    Thousands separators are understood. More than `MOST_DIGITS` digits, or a larger power of ten than
    10^`MOST_EXPONENT`, is not read as a number.
    """
    text = text.strip()
    if len(text) > 2 * MOST_DIGITS + 20:
        return None
    sign = text[:1] if text[:1] in ("+", "-") else ""
    if _GROUPED.fullmatch(text[len(sign):].strip()):
        text = text.replace(",", "")
    match = _LITERAL.fullmatch(text)
    if match is None or sum(mark.isdigit() for mark in text) > MOST_DIGITS:
        return None
    value = _magnitude(match)
    if value is None:
        return None
    plain = match["plain"] or ""
    return Literal(-value if match["sign"] == "-" else value, len(plain.partition(".")[2]))


def same(gold: Literal, answer: Literal) -> bool:
    """Equal, or one is the other rounded to the digits it shows, which must be `ROUNDED_DIGITS` at least."""
    if gold.value == answer.value:
        return True
    places = max(gold.places, answer.places)
    return places >= ROUNDED_DIGITS and abs(gold.value - answer.value) <= Fraction(1, 2 * 10 ** places)


def _magnitude(match: re.Match[str]) -> Fraction | None:
    if match["plain"] is not None:
        power = int(match["exponent"] or match["e"] or 0)
        if abs(power) > MOST_EXPONENT:
            return None
        return None if match["whole"] else Fraction(match["plain"]) * Fraction(10) ** power
    top, bottom = match["top"] or match["over"], match["bottom"] or match["under"]
    if Fraction(bottom) == 0:
        return None
    part = Fraction(top) / Fraction(bottom)
    if match["whole"] is None:
        return -part if match["minus"] else part
    return None if match["minus"] or "." in top + bottom else int(match["whole"]) + part
