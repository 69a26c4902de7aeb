"""What is never handed to computer algebra: expressions that cost more to evaluate than any answer is worth.

The deadline of a verifier process is the backstop; these checks keep it from being needed for the usual tricks.
"""

import re

MOST_CHARACTERS = 400
MOST_DEPTH = 12
MOST_POWERS = 24
MOST_BRACKETS = 12
MOST_VARIABLES = 6
MOST_FUNCTIONS = 4
LARGEST_POWER = 10_000
LARGEST_SYMBOLIC_POWER = 200
LARGEST_FACTORIAL = 1_000

_FORBIDDEN = tuple((re.compile(pattern), reason) for pattern, reason in (
    (r"[^\x20-\x7e]", "a character outside ASCII"),
    (r"\\(?:sum|prod|i+nt|oint|lim|bigcup|bigcap|frac ?\{ ?d ?\})(?![a-zA-Z])|\\[lc]?dots",
     "a sum, product, integral or limit"),
    (r"\\(?:gcd|lcm|mod|bmod|det|deg|max|min|lfloor|lceil|Gamma|zeta|arg)(?![a-zA-Z])", "a function still to evaluate"),
    (r"\d{40,}", "a number of 40 digits or more"),
    (r"!\s*!", "a factorial of a factorial"),
    (r"(?:\\binom|\\choose|\bC\()(?:.*\^|.*\d{5})", "a binomial of large numbers"),
))
_MARK = re.compile(r"\\\\|\\[{}]|[{}()\[\]]|\^")
_POWER = re.compile(r"(?P<base>.)? ?\^ ?(?:\{(?P<group>[^{}]*)\}?|\(?(?P<plain>\w+))")
_FACTORIAL = re.compile(r"(\d*|[})a-z]) ?!(?!=)")
_FUNCTION = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc|log|ln|exp|arcsin|arccos|arctan|sinh|cosh|tanh)(?![a-z])")


def refuse(expression: str) -> str | None:
    """Why a cleaned expression is not evaluated, or None when it may be."""
    if len(expression) > MOST_CHARACTERS:
        return f"longer than {MOST_CHARACTERS} characters"
    if depth(expression) > MOST_DEPTH:
        return f"nested more than {MOST_DEPTH} deep"
    found = next((reason for pattern, reason in _FORBIDDEN if pattern.search(expression)), None)
    return found or _tower(expression) or _large_power(expression) or _large_factorial(expression) or _wide(expression)


def depth(expression: str) -> int:
    """How deep brackets of any kind are nested."""
    level = deepest = 0
    for mark in _MARK.findall(expression):
        level += 1 if mark[-1] in "{([" else -1 if mark[-1] in "})]" else 0
        deepest = max(deepest, level)
    return deepest


def _tower(expression: str) -> str | None:
    """A power whose exponent holds a power."""
    inside: list[bool] = []
    previous = ""
    for mark in _MARK.finditer(expression):
        raised = bool(re.search(r"\^ ?\w* ?$", expression[max(0, mark.start() - 8):mark.start()]))
        if mark[0] == "^" and (any(inside) or raised):
            return "a power of a power"
        if mark[0] in ("{", "(", "[", r"\{"):
            inside.append(previous == "^" and raised)
        elif mark[0] in ("}", ")", "]", r"\}") and inside:
            inside.pop()
        previous = mark[0]
    return None


def _large_power(expression: str) -> str | None:
    powers = [(match["base"] or "", match["group"] or match["plain"] or "") for match in _POWER.finditer(expression)]
    if len(powers) > MOST_POWERS:
        return f"more than {MOST_POWERS} powers"
    variables, functions = _variables(expression), len(_FUNCTION.findall(expression))
    for base, power in powers:
        number = max((int(digits) for digits in re.findall(r"\d+", power)), default=0)
        most = LARGEST_POWER if base.isdigit() and not functions else LARGEST_SYMBOLIC_POWER
        if base in ("}", ")", "]"):
            most = 30 if len(variables) < 3 else 8
        if functions > 1:
            most = min(most, 30)
        if number > most:
            return f"a power above {most}"
    return None


def _large_factorial(expression: str) -> str | None:
    for operand in _FACTORIAL.findall(expression):
        if not operand.isdigit() or int(operand) > LARGEST_FACTORIAL:
            return f"a factorial that may be above {LARGEST_FACTORIAL}!"
    return None


def _wide(expression: str) -> str | None:
    if len(_variables(expression)) > MOST_VARIABLES:
        return f"more than {MOST_VARIABLES} variables"
    if len(_FUNCTION.findall(expression)) > MOST_FUNCTIONS:
        return f"more than {MOST_FUNCTIONS} functions"
    if expression.count("(") > MOST_BRACKETS:
        return f"more than {MOST_BRACKETS} brackets"
    return None


def _variables(expression: str) -> set[str]:
    return set(re.findall(r"[a-zA-Z]", re.sub(r"\\(?:begin|end) ?\{\w+\}|\\[a-zA-Z]+", "", expression)))
