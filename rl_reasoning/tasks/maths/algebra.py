"""Equality by computer algebra: the package math-verify, without its own timeouts.

Its timeouts are signals, which work in the main thread only; here a deadline is the affair of whoever runs a
verifier. sympy is imported at the first call.
"""

import functools
import logging
import re
from typing import Any

DIFFERENCE = 1e-4

_LONE_I = re.compile(r"(?<![a-zA-Z\\])i(?![a-zA-Z])")


@functools.cache
def _library() -> tuple[Any, Any, Any]:
    """math-verify's `parse` and `verify` with our settings, and the configuration of the parser."""
    try:
        import math_verify
        from latex2sympy2_extended import NormalizationConfig
    except ImportError as error:
        raise ImportError("this grader needs math-verify: pip install -e '.[lm]'") from error
    for module in ("math_verify.parser", "math_verify.grader"):  # each warns once that its timeout is off
        logging.getLogger(module).setLevel(logging.ERROR)
    rules = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="last",
                                equations=False)
    return math_verify.parse, math_verify.verify, math_verify.LatexExtractionConfig(
        try_extract_without_anchor=False, boxed_match_priority=0, normalization_config=rules)


@functools.lru_cache(maxsize=4096)
def parse(latex: str) -> Any | None:
    """The sympy expression of a LaTeX text, or None when it is none.

    Raises:
      ImportError: math-verify is not installed.
    """
    parser, _, config = _library()
    found = parser(rf"\boxed{{{latex}}}", [config], fallback_mode="no_fallback", extraction_mode="first_match",
                   parsing_timeout=None)
    return found[0] if found else None


def equal(gold: str, answer: str) -> bool | None:
    """Whether two LaTeX expressions are equal, to 6 decimals where one of them is a decimal; None if unreadable.

    Raises:
      ImportError: math-verify is not installed.
      ValueError: the gold expression cannot be read, so nothing can be said of any answer.
    """
    # The parser takes i for the imaginary unit only where it stands alone, as in `2 i`.
    wanted, found = (parse(_LONE_I.sub(" i ", text)) for text in (gold, answer))
    if found is None:
        return None
    if wanted is None:
        raise ValueError(f"the answer of the problem, {gold[:60]!r}, is no expression that can be read")
    if _clearly_differ(wanted, found):
        return False
    _, verify, _ = _library()
    return bool(verify(wanted, found, allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True))


def _clearly_differ(one: Any, other: Any) -> bool:
    """Whether two expressions have different values where their variables have certain positive ones.

    Proofs of inequality are what takes long, and most answers that get here are wrong. False decides nothing.
    """
    from sympy import Expr, Rational

    if not (isinstance(one, Expr) and isinstance(other, Expr)):
        return False
    symbols = sorted(one.free_symbols | other.free_symbols, key=str)
    point = {symbol: Rational(2 * i + 5, 3 * i + 7) for i, symbol in enumerate(symbols)}
    try:
        here, there = (complex(value.subs(point).evalf(20)) for value in (one, other))
        return abs(here - there) > DIFFERENCE * (1 + abs(here))
    except (TypeError, OverflowError):  # no number comes out: a function without a name, or beyond a float
        return False
