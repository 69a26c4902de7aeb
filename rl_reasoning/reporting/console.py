"""What a person sees while a run goes on: a live bar on a terminal, plain lines elsewhere."""

import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

# What the line shows, in this order, of the metrics that a step has: (metric, label, format, factor).
_SHOWN = (
    ("loss/supervised", "loss", ".3f", 1.0),
    ("token_accuracy", "token accuracy", ".1f", 100.0),
    ("reward/mean", "reward", ".3f", 1.0),
    ("reward/right", "Pass@1", ".1f", 100.0),
    ("policy/entropy", "entropy", ".3f", 1.0),
    ("length/mean", "length", ".1f", 1.0),
    ("answers_per_second", "answers/s", ",.1f", 1.0),
)


def say(text: str, file: TextIO | None = None) -> None:
    """Writes one line to `file`, standard error by default; brackets in the text stay as they are."""
    stream = file or sys.stderr
    stream.write(text + "\n")
    stream.flush()


def describe(metrics: Mapping[str, float], tokens_per_second: float | None = None) -> str:
    """One line of a step's main metrics: "reward 0.312 | Pass@1 31.0 | entropy 0.285 | 41,000 tokens/s"."""
    parts = [f"{label} {metrics[name] * factor:{form}}" for name, label, form, factor in _SHOWN if name in metrics]
    if tokens_per_second is not None and math.isfinite(tokens_per_second):
        parts.append(f"{tokens_per_second:,.0f} tokens/s")
    return " | ".join(parts)


class Progress:
    """Shows how far a phase is.

        with Progress(total=70, phase="rl") as progress:
            for step in range(1, 71):
                ...
                progress.update(step, metrics, tokens_per_second)

    On a terminal a bar stays at the bottom. Elsewhere (a log file, a notebook's output) a plain line is
    written for the first step and the last, and between them at most one each `seconds`.

    Args:
      total: steps of the phase; `update` counts up to it.
      phase: shown in front, such as "rl" or "warm start".
      file: where to write, standard error by default.
      seconds: between two plain lines.
      clock: seconds that only go forward.
    """

    def __init__(
        self,
        total: int,
        phase: str,
        file: TextIO | None = None,
        seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total, self._phase, self._seconds, self._clock = total, phase, seconds, clock
        self._file = file or sys.stderr
        self._started = self._last_line = clock()
        self._first: tuple[int, float] | None = None
        self._bar = _bar(self._file) if self._file.isatty() else None
        self._task = self._bar.add_task(phase, total=total, numbers="", left="") if self._bar else None

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, step: int, metrics: Mapping[str, float], tokens_per_second: float | None = None) -> None:
        """Shows that `step` steps are done. A run that goes on from a checkpoint may start above 1."""
        now = self._clock()
        first = self._first is None
        self._first = self._first or (step, now)
        left = self._time_left(step, now, *self._first)
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=step, numbers=describe(metrics, tokens_per_second), left=left)
        elif first or step >= self._total or now - self._last_line >= self._seconds:
            self._last_line = now
            parts = [f"{self._phase} {step}/{self._total}", describe(metrics, tokens_per_second), left]
            say(" | ".join(part for part in parts if part), self._file)

    def say(self, text: str) -> None:
        """Writes one line, above the bar where there is one."""
        if self._bar:
            self._bar.console.out(text, highlight=False)
        else:
            say(text, self._file)

    def _time_left(self, step: int, now: float, first_step: int, first_time: float) -> str:
        if step >= self._total:
            return f"done in {_clock_text(now - self._started)}"
        if step == first_step:
            return ""  # what came before it was mostly compiling and says nothing of the steps to come
        per_step = (now - first_time) / (step - first_step)
        return f"{_clock_text(per_step * (self._total - step))} left"


class _Numbers(ProgressColumn):
    """The step's metrics, cut at the right edge of the terminal and never wrapped."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["numbers"], no_wrap=True, overflow="ellipsis")


def _bar(file: TextIO) -> Bar:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        _Numbers(),
        TextColumn("{task.fields[left]}", markup=False),
    )
    return Bar(*columns, console=Console(file=file))


def _clock_text(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
