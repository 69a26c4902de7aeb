"""The maths task of a run: its sources read, compared and measured before the first step, and told about."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from rl_reasoning.config import Math as Settings
from rl_reasoning.data.lengths import Lengths, keep_short
from rl_reasoning.data.overlap import Overlap, find_overlap
from rl_reasoning.data.problems import Reading, read_problems
from rl_reasoning.tasks.maths.task import Math
from rl_reasoning.types import Problem


@dataclasses.dataclass(frozen=True)
class DataReport:
    """What was found in the data of a run.

    Attributes:
      lines: for the screen.
      record: for the run folder, JSON-able: every skipped row, repeat and overlap by name.
      weights: of the training sources, by name; empty when there are none.
    """

    lines: tuple[str, ...]
    record: Mapping[str, Any]
    weights: Mapping[str, float]


def load_maths(settings: Settings, length: Callable[[Problem], int]) -> tuple[Math, DataReport]:
    """Reads the sources of a run and makes its task.

    Args:
      length: tokens of a problem's prompt.

    Raises:
      ValueError: a bad row with `strict`, no usable problem, or an overlap that the settings do not allow.
      FileNotFoundError, ImportError: a source cannot be read.
    """
    train, held_out = read_problems(settings.train, settings), read_problems(settings.held_out, settings)
    overlap = find_overlap(train.problems, held_out.problems)
    kept, told = _apart(train, held_out, overlap, settings)
    kept, train_lengths = keep_short(kept, length, settings.prompt_tokens)
    evaluated, held_out_lengths = keep_short(held_out.problems, length, settings.prompt_tokens)
    lines = (*train.lines(), *held_out.lines(), told, *(f"training {line}" for line in train_lengths.lines()[:1]),
             *train_lengths.lines()[1:], f"held-out {held_out_lengths.lines()[0]}")
    record = {"train": _record(train, train_lengths), "held_out": _record(held_out, held_out_lengths),
              "overlap": {"rule": settings.overlap, **dataclasses.asdict(overlap)}}
    weights = dict(zip(settings.train, map(float, settings.weights), strict=True)) if settings.weights else {}
    return Math(settings, kept, evaluated), DataReport(lines, record, weights)


def _apart(train: Reading, held_out: Reading, overlap: Overlap, settings: Settings) -> tuple[tuple[Problem, ...], str]:
    """The training problems that may be used, and the sentence about the overlap."""
    line = overlap.line(len(train.problems), len(held_out.problems))
    if overlap and settings.overlap == "refuse":
        raise ValueError(f"{line}: set task.math.overlap to drop, which leaves these problems out of the training, or "
                         "to allow")
    if settings.overlap != "drop":
        return train.problems, line
    shared = {*overlap.exact, *overlap.partial}
    return tuple(problem for problem in train.problems if problem.id not in shared), f"{line}; dropped"


def _record(reading: Reading, lengths: Lengths) -> dict[str, Any]:
    return {"rows": dict(reading.rows), "used": len(reading.problems), "bad": [str(row) for row in reading.bad],
            "repeated": [f"{source}:{row}" for source, row in reading.duplicates], **dataclasses.asdict(lengths)}
