"""The final answer of a text in LaTeX's \\boxed{...}, found in one pass over text that nobody vouches for."""

import re

_PIECE = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)


def last_boxed(text: str) -> str | None:
    """What stands in the last \\boxed{...} of a text, or None when there is none or the last one is not closed.

    The outermost box counts when boxes are nested. Escaped braces do not open or close. A box that is cut
    off after a closed one means that the text ended before its last answer did: None. Linear in the text.
    """
    open_braces: list[tuple[int, int] | None] = []  # (start of the box, start of its content), None for a plain brace
    last: tuple[int, int] | None = None
    closed_at = 0
    for piece in _PIECE.finditer(text):
        if piece[0] == "}":
            box = open_braces.pop() if open_braces else None
            if box:
                last, closed_at = (box[1], piece.start()), piece.end()
        elif piece[0] == "{":
            open_braces.append(None)
        elif piece[0].startswith(r"\boxed"):
            open_braces.append((piece.start(), piece.end()))
    cut_off = any(box and box[0] >= closed_at for box in open_braces)
    return text[last[0]:last[1]] if last and not cut_off else None
