r"""One spelling for the many ways of writing an answer: LaTeX's spacing, brackets, fractions, words and signs.

`clean` keeps the meaning and stays LaTeX; `canonical` is what two spellings of one answer share as text.
"""

import re

_SIGNS = str.maketrans({
    "\N{MINUS SIGN}": "-", "\N{EN DASH}": "-", "\N{MULTIPLICATION SIGN}": r"\times ", "\N{DOT OPERATOR}": r"\cdot ",
    "\N{MIDDLE DOT}": r"\cdot ", "\N{GREEK SMALL LETTER PI}": r"\pi ", "\N{INFINITY}": r"\infty ",
    "\N{DEGREE SIGN}": " degree", "\N{LESS-THAN OR EQUAL TO}": r"\leq ", "\N{GREATER-THAN OR EQUAL TO}": r"\geq ",
    "\N{UNION}": r"\cup ", "\N{PLUS-MINUS SIGN}": r"\pm ", "\N{ELEMENT OF}": r"\in ", "\N{NO-BREAK SPACE}": " ",
    "\N{SUPERSCRIPT TWO}": "^{2}", "\N{SUPERSCRIPT THREE}": "^{3}", "\n": " ", "\t": " "})
_WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"))
_FONTS = "text|mbox|mathrm|textrm|textbf|mathbf|textit|mathit|operatorname|textnormal|mathsf|texttt|rm|bf"
_ATOM = "[0-9a-zA-Z]"

_RULES = tuple((re.compile(pattern), new) for pattern, new in (
    (r"\\(?:left|right|[bB]igg?)[lr]?(?![a-zA-Z])\.?", ""),
    (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
    (r"\\(?:displaystyle|limits|phantom\{[^{}]*\})(?![a-zA-Z])", ""),
    (r"\\dbinom|\\tbinom", r"\\binom"),
    (r"(?<=\d)(?:\{,\}|,?\\[!,;: ])(?=\d{3}(?!\d))", ""),       # thousands: 1{,}000, 1,\!000, 1\,000
    (rf"\\(?:{_FONTS})\s*\{{([^{{}}]*)\}}", r" \1 "),
    (rf"\\(?:{_FONTS})\s*\{{([^{{}}]*)\}}", r" \1 "),           # one font inside another
    (r"\\!|\{\}", ""),
    (r"(?<!\\)\\[,;:> ]|~|\\q?quad(?![a-zA-Z])", " "),
    (r"\s*\\?%|\s+per\s?cent\b", "%"),
    (r"\^\s*\{?\s*\\circ\s*\}?|\\degree(?![a-zA-Z])", " degree"),
    (r"\\le(?![a-zA-Z])|<=|\\leqslant", r"\\leq "),
    (r"\\ge(?![a-zA-Z])|>=|\\geqslant", r"\\geq "),
    (r"\\(?:lbrace)(?![a-zA-Z])", r"\\{"), (r"\\(?:rbrace)(?![a-zA-Z])", r"\\}"),
    (r"\*\*", "^"),
    (r"^\s*\\approx(?![a-zA-Z])", ""),
    (r"(?<![a-zA-Z])([apAP])\.\s?[mM](?![a-zA-Z])\.?", r"\1m"),
    (r"(?<=[a-zA-Z]{2})\.(?=\s|$)", ""),
    (r"(\\frac\s*\{|\}\s*\{)(\d{1,3}),(\d{3})(?:,(\d{3}))?(?=\})", r"\1\2\3\4"),
    (rf"\\frac\s*(\\[a-z]+)\s*({_ATOM})", r"\\frac{\1}{\2}"),
    (rf"\\frac\s*({_ATOM})\s*({_ATOM})", r"\\frac{\1}{\2}"),
    (rf"\\frac\s*({_ATOM})\s*(?=\{{)", r"\\frac{\1}"),
    (rf"(\\frac\s*\{{[^{{}}]*\}})\s*({_ATOM})", r"\1{\2}"),
    (rf"\\sqrt\s*({_ATOM})", r"\\sqrt{\1}"),
    (rf"([_^])\s*({_ATOM})", r"\1{\2}"),
    (r" +", " "),
))


def clean(text: str) -> str:
    """An answer in plain LaTeX with one way of writing each thing; words stand bare. Linear in the text."""
    text = text.translate(_SIGNS).strip()
    for _ in range(4):
        text = _unwrap(text.rstrip(". ") if not text.endswith(r"\ ") else text[:-2])
    for pattern, new in _RULES:
        text = pattern.sub(new, text)
    return text.strip().rstrip(".").strip()


def canonical(text: str) -> str:
    """A cleaned answer without what does not change its meaning: spaces, case of words, zeros at the edges."""
    text = re.sub(r"[A-Za-z]{2,}", lambda word: word[0].lower() if not _command(text, word.start()) else word[0], text)
    text = re.sub(r"(?<![\w}]) +| +(?![\w\\])", "", text)
    text = re.sub(r"(?<=[a-zA-Z}]) +(?=\\)|(?<=}) +|(?<=\d) (?=[a-zA-Z](?![a-zA-Z]))", "", text)
    text = re.sub(r"(?<!\d)\.(?=\d)", "0.", text)
    text = re.sub(r"(?<![\d.])0+(?=\d)", "", text)
    text = re.sub(r"(\.\d*?)0+(?!\d)", r"\1", text).replace(".,", ",")
    text = re.sub(r"(?<=\d)\.(?!\d)", "", text)
    text = re.sub(r"^([+-]?)\(?(\d+)\)?/\(?(\d+)\)?$", r"\1\\frac{\2}{\3}", text)
    return text.removeprefix("+")


def _command(text: str, start: int) -> bool:
    return start > 0 and text[start - 1] == "\\"


def _unwrap(text: str) -> str:
    """The inside of math signs or of a box around the whole text."""
    for left, right in _WRAPPERS:
        inside = text[len(left):-len(right)]
        if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right) and left not in inside:
            return inside.strip()
    if text.startswith(r"\boxed{") and text.endswith("}") and closes_at_end(text, len(r"\boxed")):
        return text[len(r"\boxed{"):-1].strip()
    return text


_BRACKET = re.compile(r"\\\\|\\[{}]|\\[lr]angle(?![a-zA-Z])|[()\[\]{}]")
OPENING = ("(", "[", "{", r"\{", r"\langle")


def closes_at_end(text: str, start: int) -> bool:
    """Whether the bracket at `start` is closed by the text's last bracket, which is its last mark."""
    depth = 0
    for bracket in _BRACKET.finditer(text, start):
        if bracket[0] != "\\\\":
            depth += 1 if bracket[0] in OPENING else -1
        if depth == 0:
            return bracket.end() == len(text)
    return False


def split(text: str, separator: re.Pattern[str]) -> list[str]:
    """The parts between separators that stand in no bracket, stripped; linear in the text."""
    spans = [(match.start(), match.end(), 0) for match in separator.finditer(text)]
    marks = [(match.start(), match.end(), 1 if match[0] in OPENING else -1) for match in _BRACKET.finditer(text)
             if match[0] != "\\\\"]
    parts, depth, begin = [], 0, 0
    for start, end, change in sorted(spans + marks):
        depth += change
        if change == 0 and depth == 0:
            parts.append(text[begin:start].strip())
            begin = end
    return [*parts, text[begin:].strip()]
