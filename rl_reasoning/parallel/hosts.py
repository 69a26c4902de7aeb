"""Several processes that must stay in step: whoever is late, other, or broken is named, and nobody waits for ever.

`jax.distributed` gives every process a store of short texts. Here processes meet in it: each says where it is and what
it has, and reads what the others say. A collective of jax that one process does not reach hangs the others without a
word; a meeting before it ends after some seconds, with who is missing and where that one was last.

A job of one process has `ALONE`, which waits for nobody.
"""

import contextlib
import faulthandler
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import jax
import numpy as np

from rl_reasoning.config import Distributed

_SLICE = 0.2  # seconds between two looks for what the others say of themselves
_TIMED_OUT = "DEADLINE_EXCEEDED"


class HostsError(RuntimeError):
    """The processes are not together any more: one is missing, has failed, or is not doing the same."""


class Different(HostsError):
    """The processes were not started with the same settings, code or data."""


class Store(Protocol):
    """What is asked of `jax.distributed`'s client."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        """Keeps a text."""

    def blocking_key_value_get(self, key: str, timeout_in_ms: int) -> str:
        """The text, as soon as there is one. Raises a RuntimeError that says so when there is none in time."""

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        """All keys with a prefix, with their texts."""

    def key_value_delete(self, key: str) -> None:
        """Forgets a key."""


class Hosts:
    """This process among its peers.

        hosts.agree(facts)                       # the same settings and code everywhere
        hosts.at("rollout", step)                # where this process is, in case the others wait for it
        notes = hosts.meet("update", step, note) # all are here; what each has brought

    Every process meets in the same order, which is checked: a process that took another turn is named too.

    Args:
      store: None uses that of `jax.distributed`, which must be initialized.
      seconds: that a process may be late.
      longest: seconds that one phase may take, as where another process is gone in the middle of a collective; then
        this process says so and ends. 0 is for ever.
      leave: ends the process at once with an exit code.

    Attributes:
      index, count: which process this is, of how many. step: that of the latest phase.
    """

    def __init__(self, store: Store | None = None, *, index: int | None = None, count: int | None = None,
                 seconds: float = 300.0, longest: float = 0.0, leave: Callable[[int], Any] = os._exit):
        self._store = store or _store()
        self.index = jax.process_index() if index is None else index
        self.count = jax.process_count() if count is None else count
        self.step = 0
        self._seconds, self._longest, self._leave, self._met = seconds, longest, leave, 0
        self._timers: list[threading.Timer] = []
        self._asked: Callable[[], int | None] = lambda: None
        self._agreed: Callable[[int], None] = lambda _: None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks for all."""
        return self.index == 0

    def at(self, phase: str, step: int) -> None:
        """Says where this process is. It writes its own stack to standard error when it stays there too long."""
        self.step = step
        self._store.key_value_set(f"hosts/at/{self.index}", f"{phase} of step {step}", allow_overwrite=True)
        self._watch(phase, step)

    def enter(self, phase: str, step: int) -> None:
        """Begins a phase, once all are there. Raises: see `meet`."""
        self.meet(phase, step)
        self.at(phase, step)

    def told(self, what: Callable[[], Any], phase: str, step: int | None = None) -> Any:
        """What process 0 finds: for what depends on its disk or its clock. JSON-able. Raises: see `meet`."""
        return self.meet(phase, self.step if step is None else step, what() if self.is_first else None)[0]

    def heed(self, asked: Callable[[], int | None], agreed: Callable[[int], None]) -> None:
        """Carries a wish to stop, such as a signal's number, with every meeting.

        Args:
          asked: what was asked of this process, if anything.
          agreed: called after a meeting to which any process has brought a wish: at the same meeting in all.
        """
        self._asked, self._agreed = asked, agreed

    def meet(self, phase: str, step: int, note: Any = None) -> list[Any]:
        """Waits until every process is at this point; returns what each brought, by process.

        Args: note: JSON-able and short.
        Raises HostsError: a process is missing, has failed, or is at another point. Stacks are dumped.
        """
        self.at(f"meeting {phase}", step)
        said = {"phase": phase, "step": step, "note": note, "stop": self._asked()}
        self._store.key_value_set(f"hosts/met/{self._met}/{self.index}", json.dumps(said))
        deadline, heard, stops = time.monotonic() + self._seconds, [], []
        for process in range(self.count):
            other = json.loads(self._hear(process, f"{phase} of step {step}", deadline))
            if (other["phase"], other["step"]) != (phase, step):
                raise HostsError(f"process {process} is at {other['phase']} of step {other['step']}, and process "
                                 f"{self.index} at {phase} of step {step}: they have not done the same")
            heard.append(other["note"])
            stops.append(other["stop"])
        if self._met:  # everybody has read what was said before the last meeting
            self._store.key_value_delete(f"hosts/met/{self._met - 1}/{self.index}")
        self._met += 1
        self.rest()
        for number in filter(None, stops):
            self._agreed(number)
            break
        return heard

    def agree(self, facts: Mapping[str, Any]) -> None:
        """Meets at the start. Raises Different that names what differs between processes, with both values.

        Args: facts: flat and JSON-able, such as settings by dotted name and digests of code and data.
        """
        every = self.meet("start", 0, dict(facts))
        for process, others in enumerate(every):
            names = sorted(name for name in every[0].keys() | others.keys() if every[0].get(name) != others.get(name))
            if names:
                parts = [f"{name} is {every[0].get(name)!r} in process 0 and {others.get(name)!r} in process {process}"
                         for name in names[:6]]
                raise Different("; ".join(parts) + ": start all processes with the same settings and code")

    def any(self, flag: bool, phase: str, step: int) -> bool:
        """Whether it is so in any process: what decides which way all of them go, so that all go the same."""
        return any(self.meet(phase, step, bool(flag)))

    @contextlib.contextmanager
    def announced(self, what: str) -> Iterator[None]:
        """A failure inside is told to the others, who may be waiting for this process, and then goes on."""
        try:
            yield
        except BaseException as error:
            text = f"process {self.index} has failed in {what}: {type(error).__name__}: {error}"
            with contextlib.suppress(RuntimeError):  # the store itself may be what is gone
                self._store.key_value_set(f"hosts/failed/{self.index}", text[:2000], allow_overwrite=True)
            raise

    def same(self, tree: Any, step: int) -> None:
        """Compares every array that several devices hold, here and across processes, bit for bit.

        Raises HostsError that names the array and where it differs.
        """
        own, within = shard_digests(tree)
        message = f"process {self.index}: {within}" if within else ""
        every = self.meet("replicas", step, [message, own])
        for found, _ in every:
            if found:
                raise HostsError(f"step {step}: {found}")
        for process, (_, others) in enumerate(every):
            for name in sorted(every[0][1].keys() & others.keys()):
                if every[0][1][name] != others[name]:
                    raise HostsError(f"step {step}: {name} is not the same in process 0 and process {process}")

    def failures(self) -> list[str]:
        """What processes have announced; where a collective broke, one of them is why."""
        with contextlib.suppress(RuntimeError):
            return [text for _, text in self._store.key_value_dir_get("hosts/failed/")]
        return []

    def leave(self, seconds: float = 5.0) -> None:
        """To be called before the process ends because of an error: process 0 holds the store, and when it goes first
        the others are ended by jax without a word. It waits until they have left too, for some seconds at most.
        """
        deadline = time.monotonic() + seconds
        self.rest()
        with contextlib.suppress(RuntimeError):
            self._store.key_value_set(f"hosts/left/{self.index}", "", allow_overwrite=True)
            while (self.index == 0 and time.monotonic() < deadline
                   and len(self._store.key_value_dir_get("hosts/left/")) < self.count):
                time.sleep(_SLICE)

    def rest(self) -> None:
        """No phase is under way any more."""
        for timer in self._timers:
            timer.cancel()

    def _watch(self, phase: str, step: int) -> None:
        """Dumps the stacks when the phase takes too long, and ends the process when it takes longer than any may."""
        def too_long() -> None:
            others = ", ".join(f"process {process} in {text}" for process, text in sorted(self._places().items())
                               if process != self.index)
            text = (f"process {self.index} has been in {phase} of step {step} for {self._longest:g} s; {others}: "
                    "leaving")
            with contextlib.suppress(RuntimeError):
                self._store.key_value_set(f"hosts/failed/{self.index}", text, allow_overwrite=True)
            _dump_stacks()
            errors = sys.__stderr__ or sys.stderr
            errors.write(text + "\n")
            errors.flush()
            self._leave(1)

        self.rest()
        self._timers = [threading.Timer(self._seconds, _dump_stacks)]
        if self._longest:
            self._timers.append(threading.Timer(self._longest, too_long))
        for timer in self._timers:
            timer.daemon = True
            timer.start()

    def _places(self) -> dict[int, str]:
        """Where each process was last."""
        with contextlib.suppress(RuntimeError):
            return {int(key.rsplit("/", 1)[1]): text for key, text in self._store.key_value_dir_get("hosts/at/")}
        return {}

    def _hear(self, process: int, where: str, deadline: float) -> str:
        """What a process says at this meeting."""
        while True:
            left = deadline - time.monotonic()
            try:
                wait = max(1, int(1000 * min(_SLICE, max(left, 0))))
                return self._store.blocking_key_value_get(f"hosts/met/{self._met}/{process}", wait)
            except RuntimeError as error:
                if _TIMED_OUT not in str(error):
                    raise HostsError(f"process {self.index} cannot reach the others: {error}") from error
            for _, text in self._store.key_value_dir_get("hosts/failed/"):
                raise HostsError(text)
            if left <= 0:
                raise HostsError(self._missing(where))

    def _missing(self, where: str) -> str:
        """The sentence for a meeting that did not come about; this process's stacks go to standard error."""
        here = {int(key.rsplit("/", 1)[1]) for key, _ in self._store.key_value_dir_get(f"hosts/met/{self._met}/")}
        places = self._places()
        missing = [f"process {process} (last in {places.get(process, 'nothing that it told')})"
                   for process in range(self.count) if process not in here]
        _dump_stacks()
        return f"{where}: after {self._seconds:g} s these are missing: {', '.join(missing)}"


def _dump_stacks() -> None:
    """The stacks of all threads, to standard error.

    By a thread that holds the interpreter's lock: faulthandler's own timer does not, and what it reads of a thread that
    runs meanwhile may be gone, which ends the process.
    """
    with contextlib.suppress(OSError, AttributeError):  # standard error may be no file, as under pytest
        faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr)


class Alone:
    """The only process of a job: it agrees with itself. Methods as those of `Hosts`."""

    index, count, is_first, step = 0, 1, True, 0

    def at(self, phase: str, step: int) -> None:
        """Nobody asks."""

    enter = at

    def meet(self, phase: str, step: int, note: Any = None) -> list[Any]:
        """What this process brings."""
        return [note]

    def told(self, what: Callable[[], Any], phase: str, step: int | None = None) -> Any:
        """What it finds."""
        return what()

    def agree(self, facts: Mapping[str, Any]) -> None:
        """It does."""

    def heed(self, asked: Callable[[], int | None], agreed: Callable[[int], None]) -> None:
        """It stops by itself."""

    def same(self, tree: Any, step: int) -> None:
        """Raises HostsError where two devices of this process hold different copies of an array."""
        if different := shard_digests(tree)[1]:
            raise HostsError(f"step {step}: {different}")


ALONE = Alone()


def join(settings: Distributed) -> Hosts | Alone:
    """This process among those of its job; must be called before anything asks jax for devices.

    Raises RuntimeError or ValueError when the others could not be reached, or auto finds nothing to go by.
    """
    if not settings.coordinator:
        return ALONE
    if not jax.distributed.is_initialized():
        # jax would answer SIGTERM by itself; `loop.stops` does, and tells the others.
        jax.config.update("jax_enable_preemption_service", False)
        seconds = max(1, round(settings.seconds))
        if settings.coordinator == "auto":
            jax.distributed.initialize(initialization_timeout=seconds)
        else:
            jax.distributed.initialize(settings.coordinator, settings.processes, settings.process,
                                       initialization_timeout=seconds)
    return Hosts(seconds=settings.seconds, longest=settings.longest)


def shard_digests(tree: Any) -> tuple[dict[str, str], str]:
    """{"parameters.norm [0:8]": digest} of every part of every array that this process holds, and a sentence naming
    the first of which its devices hold different copies, or an empty text.
    """
    found: dict[str, str] = {}
    different = ""
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        for shard in leaf.addressable_shards:
            part = f"{name} {_place(shard.index, leaf.shape)}"
            digest = hashlib.sha256(np.ascontiguousarray(shard.data).tobytes()).hexdigest()[:16]
            if found.setdefault(part, digest) != digest and not different:
                different = f"{part} is not the same on all devices, and {shard.device} has another copy"
    return found, different


def _place(index: tuple[slice, ...], shape: tuple[int, ...]) -> str:
    ranges = (part.indices(size)[:2] for part, size in zip(index, shape, strict=True))
    return "[" + ", ".join(f"{low}:{high}" for low, high in ranges) + "]"


def _store() -> Store:
    from jax._src import distributed  # there is no public way to the client

    client = distributed.global_state.client
    if client is None:
        raise HostsError("jax.distributed is not initialized: call jax.distributed.initialize() first")
    return client
