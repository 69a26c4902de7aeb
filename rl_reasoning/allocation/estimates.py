"""What is known of each problem from earlier answers: how often one is accepted, and how large its gradient is."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Record(NamedTuple):
    """Of one problem.

    drawn, accepted: answers, each worth less with every step that passed before `step`. norm, measured: the sum of
    accepted answers' gradient norms, and of how many, in the same way. step: of the latest answers. estimated: step in
    which the estimate was last brought up to its number of draws.
    """

    drawn: float = 0.0
    accepted: float = 0.0
    norm: float = 0.0
    measured: float = 0.0
    step: int = 0
    estimated: int | None = None

    def aged(self, step: int, memory: float) -> "Record":
        """The same at a later step."""
        share = memory ** (step - self.step)
        return self._replace(drawn=self.drawn * share, accepted=self.accepted * share, norm=self.norm * share,
                             measured=self.measured * share, step=step)


class Found(NamedTuple):
    """What new answers to P problems say; all [P].

    drawn: scorable answers. accepted: of them. norm: sum of gradient norms over those `measured`.
    """

    drawn: np.ndarray
    accepted: np.ndarray
    norm: np.ndarray
    measured: np.ndarray


@dataclasses.dataclass(frozen=True)
class Estimates:
    """Of every problem that was answered, by its id; a value: adding gives another."""

    records: Mapping[str, Record] = dataclasses.field(default_factory=dict)

    def missing(self, problems: Sequence[str], step: int, *, draws: int, every: int, memory: float) -> np.ndarray:
        """[P] int64: new answers that an estimate of each problem takes.

        None while the latest estimate is less than `every` steps old; then as many as the answers known, each worth
        `memory` ** its age, fall short of `draws`.
        """
        def short(record: Record | None) -> int:
            if record is None:
                return draws
            if record.estimated is not None and step - record.estimated < every:
                return 0
            return max(0, int(np.ceil(draws - record.aged(step, memory).drawn)))

        return np.asarray([short(self.records.get(problem)) for problem in problems], np.int64)

    def add(self, problems: Sequence[str], found: Found, step: int, *, memory: float,
            estimated: bool = False) -> "Estimates":
        """With more answers. estimated: they brought the problems' estimates up to date."""
        records = dict(self.records)
        for problem, *new in zip(problems, *(np.asarray(column, float).tolist() for column in found), strict=True):
            old = records.get(problem, Record(step=step)).aged(step, memory)
            drawn, accepted, norm, measured = (a + b for a, b in zip(old[:4], new, strict=True))
            records[problem] = Record(drawn, accepted, norm, measured, step, step if estimated else old.estimated)
        return Estimates(records)

    def rates(self, problems: Sequence[str]) -> np.ndarray:
        """[P] acceptance rates; NaN of a problem without scorable answers."""
        known = [self.records.get(problem, Record()) for problem in problems]
        return np.asarray([record.accepted / record.drawn if record.drawn else np.nan for record in known])

    def norms(self, problems: Sequence[str]) -> np.ndarray:
        """[P] mean gradient norms of accepted answers; their mean where none was measured, 1 where none was at all."""
        known = [self.records.get(problem, Record()) for problem in problems]
        means = np.asarray([record.norm / record.measured if record.measured else np.nan for record in known])
        return np.where(np.isfinite(means), means, np.nanmean(means) if np.isfinite(means).any() else 1.0)

    def outside(self, problems: Sequence[str], step: int, *, low: float, high: float, steps: int) -> np.ndarray:
        """[P] bool: a rate outside [low, high], from answers at most so many steps old."""
        rates = self.rates(problems)
        recent = np.asarray([step - self.records[problem].step <= steps if problem in self.records else False
                             for problem in problems], bool)
        return recent & np.isfinite(rates) & ((rates < low) | (rates > high))

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint keeps; JSON-able, and exact."""
        return {problem: list(record) for problem, record in self.records.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Sequence[Any]]) -> "Estimates":
        """What `get_state` gave."""
        return cls({problem: Record(*record) for problem, record in state.items()})
