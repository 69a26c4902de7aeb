"""What scores answers for the loop and the evaluation, and the simplest one: the task's verifier, here and now."""

import dataclasses
from collections.abc import Iterable
from typing import Protocol

from rl_reasoning import tasks
from rl_reasoning.tasks import Task
from rl_reasoning.types import Problem, Verdict

Item = tuple[Problem, str]


class Verifier(Protocol):
    """What scores answers: in the training process, or in a pool."""

    def verify_all(self, items: Iterable[Item]) -> list[Verdict]:
        """A verdict on each (problem, answer text), in their order. Never raises on account of an answer."""
        ...

    def counts(self) -> dict[str, float]:
        """What happened so far, by the name of a metric."""
        ...

    def close(self) -> None:
        """Ends what was started; a second call does nothing."""
        ...


@dataclasses.dataclass(frozen=True)
class InProcess:
    """A task's verifier called here and now, for tasks whose `verify` takes microseconds on any text."""

    task: Task

    def verify_all(self, items: Iterable[Item]) -> list[Verdict]:
        """See `Verifier`."""
        return [tasks.verify(self.task, problem, text) for problem, text in items]

    def counts(self) -> dict[str, float]:
        """Nothing is counted."""
        return {}

    def close(self) -> None:
        """Nothing was started."""
