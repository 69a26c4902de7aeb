"""SIGTERM and Ctrl-C: the step is finished or left, the state is saved, and the exit code says which it was."""

import contextlib
import os
import signal
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

from rl_reasoning.parallel.hosts import ALONE, Alone, Hosts
from rl_reasoning.reporting.console import say

PREEMPTED, INTERRUPTED = 75, 130
CODES: dict[int, int] = {signal.SIGTERM: PREEMPTED, signal.SIGINT: INTERRUPTED}
NAMES: dict[int, str] = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}


class Stopped(BaseException):
    """The process was asked to stop. Not an Exception, since no handler of errors may take it for one of its own."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {NAMES[number]}")
        self.code = CODES[number]


class Stops:
    """Turns the first signal into `Stopped`, raised in the main thread where nothing can be lost by it.

        with Stops(seconds=25) as stops:
            state = work()                # abandoned by a signal
            with stops.shield():
                state = replace(state)    # finished first

    Later signals change nothing: whatever the first one started goes on. When the main thread has not reached
    `arrived` within `seconds`, as in a long compilation, the `last_resort` runs in a thread of its own and the process
    ends with the signal's code.

    With several processes nobody can leave a step alone, since the others would wait: a signal to any of them goes to
    all with their next meeting, and that is where all of them stop. No time is set for it, beyond the hosts' own.

    Args:
      seconds: that the main thread has to get out of what it does.
      leave: ends the process at once with an exit code.
      hosts: the processes that do the work together.
    """

    def __init__(self, seconds: float, leave: Callable[[int], Any] = os._exit, hosts: Hosts | Alone = ALONE):
        self._seconds, self._leave, self._depth = seconds, leave, 0
        self._asked: int | None = None  # by a signal to this process
        self._number: int | None = None  # of the signal that all stop for
        self._together = hosts.count > 1
        hosts.heed(lambda: self._asked, self._agreed)
        self._timer: threading.Timer | None = None
        self._before: dict[int, Any] = {}
        self.last_resort: Callable[[], None] = lambda: None

    def __enter__(self) -> "Stops":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in CODES}
        return self

    def __exit__(self, *_: object) -> None:
        self.arrived()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def shield(self) -> Iterator[None]:
        """What is inside is finished before `Stopped` is raised."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        self.check()

    def check(self) -> None:
        """Raises Stopped when a signal has come and nothing is shielded."""
        if self._number is not None and self._depth == 0:
            raise Stopped(self._number)

    def arrived(self) -> None:
        """The main thread has left its work and is about to save: it is given the time that takes."""
        if self._timer:
            self._timer.cancel()

    def _agreed(self, number: int) -> None:
        """All processes stop for this signal from here on; said and raised once."""
        if self._number is None:
            self._number = number
            self.check()

    def _receive(self, number: int, _frame: types.FrameType | None) -> None:
        if self._asked is not None:
            say(f"{NAMES[number]}: stopping already")
            return
        self._asked = number
        say(f"{NAMES[number]}: stopping" + (" where all processes meet next" if self._together else ""))
        if self._together:
            return
        self._number = number
        self._timer = threading.Timer(self._seconds, self._too_late)
        self._timer.daemon = True
        self._timer.start()
        self.check()

    def _too_late(self) -> None:
        say(f"still busy after {self._seconds:g} s: leaving the step")
        try:
            self.last_resort()
        finally:
            self._leave(CODES[self._number or signal.SIGTERM])
