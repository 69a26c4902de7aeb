"""Maths problems from sources: read, checked, counted. A row is used, or it is counted with its file and line."""

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rl_reasoning.config import Math
from rl_reasoning.data.layouts import UnusableRow, answers_of, facts_of, question_of
from rl_reasoning.data.sources import BadRow, read_rows
from rl_reasoning.tokenizers.chat import BOXED
from rl_reasoning.types import Message, Problem

MOST_SHOWN = 5

PROMPTS: dict[str, Callable[[str], tuple[Message, ...]]] = {
    "boxed": lambda question: (Message("user", f"{question}\n{BOXED}"),),
    "tags": lambda question: (Message("user", f"{question}\nPlease reason step by step, and put your final answer "
                                              "within <answer></answer>."),),
    "plain": lambda question: (Message("user", question),),
}


@dataclasses.dataclass(frozen=True)
class Reading:
    """What came of some sources.

    Attributes:
      problems: the usable ones, without repeats, in the order of the sources.
      rows: how many rows each source holds, bad ones included.
      bad: rows that were skipped.
      duplicates: rows whose question came before with the same answer; (source, row).
    """

    problems: tuple[Problem, ...]
    rows: Mapping[str, int]
    bad: tuple[BadRow, ...]
    duplicates: tuple[tuple[str, int], ...]

    def lines(self) -> list[str]:
        """What a person is told: counts for each source, and the first bad rows by line."""
        kept = collections.Counter(problem.metadata["source"] for problem in self.problems)
        skipped = collections.Counter(row.source for row in self.bad)
        repeated = collections.Counter(source for source, _ in self.duplicates)
        told = [f"{source}: {kept[source]:,} of {count:,} rows used, {skipped[source]} bad, {repeated[source]} repeated"
                for source, count in self.rows.items()]
        told += [f"  skipped {row}" for row in self.bad[:MOST_SHOWN]]
        return told + ([f"  and {len(self.bad) - MOST_SHOWN} more"] if len(self.bad) > MOST_SHOWN else [])


def read_problems(sources: Sequence[str], settings: Math) -> Reading:
    """The problems of the sources.

    An id is a digest of the question, so the same problem has the same id in every file and order.

    Raises:
      ValueError: with `settings.strict`, the first bad row; or no source gave a usable row.
      FileNotFoundError, ImportError: see `read_rows`.
    """
    problems: dict[str, Problem] = {}
    rows, bad, duplicates = {}, [], []
    for source in sources:
        rows[source] = 0
        for row in read_rows(source):
            rows[source] += 1
            found = row if isinstance(row, BadRow) else _problem(source, *row, settings)
            earlier = problems.get(found.id) if isinstance(found, Problem) else None
            if earlier and isinstance(found, Problem) and earlier.answer != found.answer:
                found = BadRow(source, found.metadata["row"], f"another answer to the question of "
                               f"{earlier.metadata['source']}:{earlier.metadata['row']}")
            if isinstance(found, BadRow):
                _refuse(found, settings)
                bad.append(found)
            elif earlier:
                duplicates.append((source, found.metadata["row"]))
            elif not settings.levels or found.metadata.get("level") in settings.levels:
                problems[found.id] = found
    if sources and not problems:
        raise ValueError(_nothing(sources, bad, settings))
    return Reading(tuple(problems.values()), rows, tuple(bad), tuple(duplicates))


def _problem(source: str, number: int, record: Mapping[str, Any], settings: Math) -> Problem | BadRow:
    try:
        question, answers = question_of(record), answers_of(record)
    except UnusableRow as error:
        return BadRow(source, number, str(error))
    if len(answers) > 1 and settings.several == "skip":
        return BadRow(source, number, f"{len(answers)} answers; task.math.several says what to do with them")
    answer: Any = answers[0] if len(answers) == 1 else answers if settings.several == "any" else ", ".join(answers)
    digest = hashlib.sha256(" ".join(question.split()).encode(errors="surrogatepass")).hexdigest()[:16]
    facts = {"question": question, "source": source, "row": number, **facts_of(record)}
    return Problem(f"math:{digest}", PROMPTS[settings.prompt](question), answer, "math", facts)


def _refuse(row: BadRow, settings: Math) -> None:
    if settings.strict:
        raise ValueError(f"{row}; task.math.strict refuses bad rows, without it they are skipped and counted")


def _nothing(sources: Sequence[str], bad: Sequence[BadRow], settings: Math) -> str:
    why = f"levels={settings.levels} keeps none" if settings.levels else "no rows"
    why = f"the first bad row: {bad[0]}" if bad else why
    return f"{', '.join(sources)} gave no problem ({why})"
