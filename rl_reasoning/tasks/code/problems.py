"""Programming problems from JSON lines.

One object a line, with the fields

    id          text, unique in the file
    prompt      text: what to write
    tests       list of {"input": text, "output": text}: the program reads the first and must print the second
    assertions  instead of tests: list of Python texts, each with an assert on functions that the program defines
    setup       with assertions, optional: Python text in front of each (imports, helpers)

Other fields become the problem's metadata. A test of `assertions` sees plain values only (numbers, text, lists, sets,
dicts and the like, iterators), since the program runs in another process; arguments that a function changes in place
are changed for the test too.
"""

import ast
import builtins
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rl_reasoning.types import Message, Problem

READ = "Write a Python program that reads standard input and prints the answer. End with the whole program in one " \
       "```python block."
DEFINE = "Write this in Python. End with the whole program in one ```python block."


@dataclasses.dataclass(frozen=True)
class CodeProblems:
    """A file's problems, and the rows that are none as (line number, why)."""

    problems: tuple[Problem, ...]
    skipped: tuple[tuple[int, str], ...]


def read_problems(path: Path, strict: bool) -> CodeProblems:
    """The problems of a JSON-lines file; a bad row is skipped and reported.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: `strict` and a row is bad, or no row is good.
    """
    if not path.is_file():
        raise FileNotFoundError(f"task.code.path={str(path)!r}: there is no such file, looking from {Path.cwd()}")
    problems: dict[str, Problem] = {}
    skipped = []
    for number, line in _lines(path):
        try:
            problem = _problem(line)
            if problem.id in problems:
                raise ValueError(f"id {problem.id!r} came before")
            problems[problem.id] = problem
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            skipped.append((number, str(error)))
    if skipped and (strict or not problems):
        number, why = skipped[0]
        raise ValueError(f"{path}, line {number}: {why} ({len(skipped)} bad rows; task.code.strict=false skips them "
                         "when there are good ones)")
    if not problems:
        raise ValueError(f"{path} holds no problem")
    return CodeProblems(tuple(problems.values()), tuple(skipped))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8", errors="replace") as file:
        yield from ((number, line) for number, line in enumerate(file, start=1) if line.strip())


def _problem(line: str) -> Problem:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    for field in ("id", "prompt"):
        if not isinstance(row.get(field), str) or not row[field].strip():
            raise ValueError(f"{field} must be a text that is not empty, but is {row.get(field)!r:.60}")
    if ("tests" in row) == ("assertions" in row):
        raise ValueError("a problem has either tests or assertions")
    answer, instruction = (_output_tests(row), READ) if "tests" in row else (_assertions(row), DEFINE)
    known = ("id", "prompt", "tests", "assertions", "setup")
    return Problem(id=row["id"], prompt=(Message("user", f"{row['prompt'].strip()}\n\n{instruction}"),), answer=answer,
                   task="code", metadata={name: value for name, value in row.items() if name not in known})


def _output_tests(row: Mapping[str, Any]) -> dict[str, Any]:
    tests = row["tests"]
    good = isinstance(tests, list) and tests and all(
        isinstance(test, dict) and isinstance(test.get("input"), str) and isinstance(test.get("output"), str)
        for test in tests)
    if not good:
        raise ValueError('tests must be a list of {"input": text, "output": text} that is not empty')
    if not any(test["output"].strip() for test in tests):
        raise ValueError("no test expects any output, so a program that does nothing would pass")
    return {"tests": [{"input": test["input"], "output": test["output"]} for test in tests]}


def _assertions(row: Mapping[str, Any]) -> dict[str, Any]:
    setup, assertions = row.get("setup", ""), row["assertions"]
    texts = isinstance(assertions, list) and assertions and all(isinstance(text, str) for text in assertions)
    if not texts or not isinstance(setup, str):
        raise ValueError("assertions must be a list of texts that is not empty, and setup a text")
    names: set[str] = set()
    for text in assertions:
        called, asserts = _called(f"{setup}\n{text}")
        if not called or not asserts:
            raise ValueError(f"the assertion {text!r:.60} needs an assert and a name that the program defines")
        names |= called
    return {"assertions": list(assertions), "setup": setup, "names": sorted(names)}


def _called(text: str) -> tuple[set[str], bool]:
    """The names that a test reads and neither it nor Python defines, and whether it asserts anything."""
    read: set[str] = set()
    bound, asserts = set(dir(builtins)), False
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
        asserts = asserts or isinstance(node, ast.Assert)
    return read - bound, asserts
