r"""The outer shape of an answer: one value, a list, a set, an ordered tuple or interval, a union, a matrix.

Shapes are compared here, exactly; only the values inside go to a comparison of values. So `1, 2, 3` is never
taken for one of its members, and an interval is never taken for another kind of bracket.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence

from rl_reasoning.tasks.maths.guards import depth
from rl_reasoning.tasks.maths.spelling import clean, closes_at_end, split
from rl_reasoning.types import Outcome

MOST_ITEMS = 64
MOST_DEPTH = 24

_MATRIX = re.compile(r"\\begin ?\{ ?([bpvBV]?(?:small)?matrix|array) ?\}(?: ?\{[lcr| ]*\})?(.*?)\\end ?\{ ?\1 ?\}",
                     re.DOTALL)
_MEMBER = re.compile(r"[a-zA-Z] ?\\in(?![a-zA-Z])")
_NAME = re.compile(r"(?:\\?[a-zA-Z]+(?: ?_ ?\{?\w+\}?)?|\( ?[a-z](?: ?, ?[a-z])* ?\)) ?= ?")
_UNION = re.compile(r"\\cup(?![a-zA-Z])")
_ITEMS = re.compile(r",? (?:and|or)(?![a-zA-Z])|[,;]|\\(?:lor|vee)(?![a-zA-Z])")
_COMMA = re.compile(r"[,;]")
_ROWS = re.compile(r"\\\\|\\cr(?![a-z])")
_CELLS = re.compile(r"&")
_GROUPED = re.compile(r"[+-]?\\?\$? ?\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])[^,;]*")
_SIGN = re.compile(r"\\(?:pm|mp)(?![a-zA-Z])")
_ROUND = {"(": "(", r"\langle": "("}
_OPENERS = ("(", "[", r"\{", "{", r"\langle")
_CLOSERS = {")": ")", "]": "]", r"\rangle": ")"}


@dataclasses.dataclass(frozen=True)
class Shape:
    """A kind with its parts.

    Attributes:
      kind: "value", "list", "set", "union", "matrix", "determinant", or the two brackets of a tuple: "()", "[)", ...
      items: one text for a value, cleaned LaTeX; shapes otherwise. A matrix has a list for each row.
    """

    kind: str
    items: tuple["Shape | str", ...]

    @property
    def text(self) -> str:
        """Of a value."""
        [text] = self.items
        assert isinstance(text, str)
        return text

    @property
    def parts(self) -> tuple["Shape", ...]:
        """Of all other kinds."""
        return tuple(item for item in self.items if isinstance(item, Shape))

    @property
    def unordered(self) -> bool:
        """Whether its items may come in any order."""
        return self.kind in ("list", "set", "union")


def read_shape(text: str, *, thousands: bool = True) -> Shape:
    """The shape of an answer in any spelling.

    Args:
      thousands: read 81,256 as one number, not as two.

    Raises:
      ValueError: more than `MOST_ITEMS` parts, or brackets nested more than `MOST_DEPTH` deep.
    """
    text = clean(text)
    if depth(text) > MOST_DEPTH:
        raise ValueError(f"brackets are nested more than {MOST_DEPTH} deep")
    return _shape(text, thousands=thousands)


def agree(gold: Shape, answer: Shape, compare: Callable[[str, str], Outcome]) -> Outcome:
    """RIGHT when both have the same shape and `compare` finds every pair of values right.

    Lists, sets and unions match in any order; a list may answer a set and a set a list. One UNPARSABLE value
    makes the whole UNPARSABLE unless another is wrong.
    """
    same_kind = gold.kind == answer.kind or {gold.kind, answer.kind} == {"list", "set"}
    if not same_kind or len(gold.items) != len(answer.items):
        return Outcome.WRONG
    if gold.kind == "value":
        return compare(gold.text, answer.text)
    if gold.unordered:
        return _match(gold.parts, answer.parts, compare)
    found = [agree(one, other, compare) for one, other in zip(gold.parts, answer.parts, strict=True)]
    return _together(found)


def _together(found: Sequence[Outcome]) -> Outcome:
    for outcome in (Outcome.WRONG, Outcome.UNPARSABLE):
        if outcome in found:
            return outcome
    return Outcome.RIGHT


def _match(gold: Sequence[Shape], answer: Sequence[Shape], compare: Callable[[str, str], Outcome]) -> Outcome:
    """Whether each gold item has its own answer item. Items equal as text are paired off first: the rest is dear."""
    left, right = list(gold), list(answer)
    for item in gold:
        if item in right:
            left.remove(item)
            right.remove(item)
    unreadable = False
    for item in left:
        for other in right:
            outcome = agree(item, other, compare)
            unreadable |= outcome is Outcome.UNPARSABLE
            if outcome is Outcome.RIGHT:
                right.remove(other)
                break
        else:
            return Outcome.UNPARSABLE if unreadable else Outcome.WRONG
    return Outcome.RIGHT


def _shape(text: str, *, top: bool = True, thousands: bool = True) -> Shape:
    if member := _MEMBER.match(text):
        text = text[member.end():].strip()
    if matrix := _MATRIX.fullmatch(text):
        return _matrix(matrix)
    if len(parts := split(text, _UNION)) > 1:
        return _many("union", parts)
    if top and not (thousands and _GROUPED.fullmatch(text)) and len(parts := split(text, _ITEMS)) > 1:
        return _many("list", parts)
    if name := _NAME.match(text):
        named = _shape(text[name.end():], top=False)
        return named if named.kind != "value" else Shape("value", (text,))
    return _bracketed(text) or _signed(text) or Shape("value", (text,))


def _many(kind: str, parts: Sequence[str]) -> Shape:
    parts = [part for part in parts if part]
    if len(parts) > MOST_ITEMS:
        raise ValueError(f"{len(parts)} values, and at most {MOST_ITEMS} are compared")
    if len(parts) == 1:
        return _shape(parts[0], top=False)
    return Shape(kind, tuple(_shape(part, top=False) for part in parts))


def _matrix(match: re.Match[str]) -> Shape:
    rows = [row for row in split(match[2], _ROWS) if row and row != r"\hline"]
    if len(rows) > MOST_ITEMS:
        raise ValueError(f"{len(rows)} rows, and at most {MOST_ITEMS} are compared")
    kind = "determinant" if match[1].lower().startswith("v") else "matrix"
    return Shape(kind, tuple(Shape("row", tuple(Shape("value", (cell,)) for cell in split(row, _CELLS)))
                             for row in rows))


def _bracketed(text: str) -> Shape | None:
    """A set, tuple or interval that spans the whole text, or what a needless pair of brackets holds."""
    opener = next((mark for mark in _OPENERS if text.startswith(mark)), None)
    if opener is None or not closes_at_end(text, 0):
        return None
    if opener in (r"\{", "{"):
        return _set(text, opener)
    closer = next((mark for mark in _CLOSERS if text.endswith(mark)), None)
    if closer is None:
        return None
    parts = split(text[len(opener):-len(closer)], _COMMA)
    kind = _ROUND.get(opener, opener) + _CLOSERS[closer]
    if len(parts) > MOST_ITEMS:
        raise ValueError(f"{len(parts)} values, and at most {MOST_ITEMS} are compared")
    if len(parts) == 1:
        return _shape(parts[0], top=False) if kind in ("()", "[]") else None
    return Shape(kind, tuple(_shape(part, top=False) for part in parts))


def _set(text: str, opener: str) -> Shape | None:
    closer = r"\}" if opener == r"\{" else "}"
    if not text.endswith(closer):
        return None
    inside = text[len(opener):-len(closer)].strip()
    parts = split(inside, _COMMA)
    if opener == "{" and len(parts) == 1:
        return _shape(inside, top=False)
    found = _many("set", parts) if inside else Shape("set", ())
    return found if found.kind == "set" else Shape("set", (found,))


def _signed(text: str) -> Shape | None:
    r"""`a \pm b` as the list of both values."""
    if len(_SIGN.findall(text)) != 1 or "=" in text:
        return None
    return Shape("list", tuple(Shape("value", (_SIGN.sub(sign, text).strip(),)) for sign in ("+", "-")))
