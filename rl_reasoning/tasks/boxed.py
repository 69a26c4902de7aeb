"""The final answer of a text in LaTeX's \\boxed{...}, found in one pass over text that nobody vouches for."""

import functools
import re
from collections.abc import Iterator

_PIECE = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)


def last_boxed(text: str) -> str | None:
    """What stands in the last \\boxed{...} of a text, or None when there is none or the last one is not closed.

    The outermost box counts when boxes are nested. Escaped braces do not open or close. A box that is cut
    off after a closed one means that the text ended before its last answer did: None. Linear in the text.
    """
    start, end = functools.reduce(lambda _, span: span, _spans(text), (0, -1))
    return text[start:end] if end >= 0 else None


def boxes(text: str) -> list[str]:
    """What stands in each closed \\boxed{...} that is in no other closed one, in order. Linear in the text."""
    outer: list[tuple[int, int]] = []
    for start, end in _spans(text):
        while outer and outer[-1][0] >= start:
            outer.pop()
        if end >= 0:
            outer.append((start, end))
    return [text[start:end] for start, end in outer]


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of each box's content, as it closes; at last (start, -1) when one is cut off after them."""
    open_braces: list[tuple[int, int] | None] = []  # (start of the box, start of its content), None for a plain brace
    closed_at = 0
    for piece in _PIECE.finditer(text):
        if piece[0] == "}":
            box = open_braces.pop() if open_braces else None
            if box:
                closed_at = piece.end()
                yield box[1], piece.start()
        elif piece[0] == "{":
            open_braces.append(None)
        elif piece[0].startswith(r"\boxed"):
            open_braces.append((piece.start(), piece.end()))
    for box in open_braces:
        if box and box[0] >= closed_at:
            yield box[1], -1
