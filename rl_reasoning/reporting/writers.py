"""Metrics to the run folder, to TensorBoard, and to Weights & Biases."""

import collections
import errno
import functools
import logging
import os
import pathlib
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rl_reasoning.reporting.run_folder import RunFolder

_FLUSH_EVERY = 20
_WAITING, _WAIT = 1000, 20.0
_FULL = {errno.ENOSPC, errno.EDQUOT}
_log = logging.getLogger(__name__)


class Sink(Protocol):
    """Where numbers go beside the run folder."""

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """The numbers of one step."""
        ...

    def close(self) -> None:
        """No more come."""
        ...


class MetricWriter:
    """Writes each step's numbers to the run folder, to TensorBoard, and to Weights & Biases where a run asks for it.

    The run folder is the record: a failure there is raised, except that lines wait in memory while the disk is full.
    The others are a convenience: the first failure of one is logged as one warning, and from then on it gets nothing
    while the folder goes on. A run asks for Weights & Biases by the setting `wandb` in its config.json.
    """

    def __init__(self, folder: RunFolder):
        self.folder = folder
        self._waiting: collections.deque[Callable[[], None]] = collections.deque()
        self._sinks: dict[str, Sink] = {}
        self._open("TensorBoard", lambda: _EventFile(folder))
        settings = folder.config()["config"]
        if settings.get("wandb"):
            self._open("Weights & Biases", lambda: _Behind(
                lambda: _Wandb(settings["wandb"], folder.path, settings)))

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close()
        if self._waiting and kind is None:
            raise OSError(errno.ENOSPC, f"the disk is full: {len(self._waiting)} lines of {self.folder.path} are lost")

    def metrics(self, step: int, phase: str, values: Mapping[str, Any]) -> None:
        """Records the step's metrics; see `RunFolder.append_metrics` for what is refused."""
        self._record(functools.partial(self.folder.append_metrics, step, phase, values))
        self._tell(step, phase, values)

    def timings(self, step: int, phase: str, values: Mapping[str, Any]) -> None:
        """Records the step's clock readings: "time/..." in seconds, "tokens_per_second"."""
        self._record(functools.partial(self.folder.append_timings, step, phase, values))
        self._tell(step, phase, values)

    def close(self) -> None:
        """Writes out what the others still buffer, and what waits for room on the disk."""
        self._write_waiting()
        for name in list(self._sinks):
            self._guarded(name, self._sinks[name].close)
        self._sinks = {}

    def _record(self, line: Callable[[], None]) -> None:
        """Writes a line after all that wait, or lets it wait as well."""
        self._waiting.append(line)
        self._write_waiting()

    def _write_waiting(self) -> None:
        while self._waiting:
            try:
                self._waiting[0]()
            except OSError as error:
                if error.errno not in _FULL:
                    self._waiting.clear()
                    raise
                _log.warning("%s: %s; %d lines wait in memory", self.folder.path, error.strerror, len(self._waiting))
                return
            self._waiting.popleft()

    def _open(self, name: str, make: Callable[[], Sink]) -> None:
        try:
            self._sinks[name] = make()
        except Exception as error:  # whatever a third-party writer raises must not stop training
            self._without(name, error)

    def _tell(self, step: int, phase: str, values: Mapping[str, Any]) -> None:
        named = {f"{phase}/{name}": float(value) for name, value in values.items()}
        for name, sink in list(self._sinks.items()):
            self._guarded(name, functools.partial(sink.add, step, named))

    def _guarded(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._without(name, error)

    def _without(self, name: str, error: Exception) -> None:
        self._sinks.pop(name, None)
        _log.warning("%s gets no more of this run (%s: %s); metrics.jsonl goes on", name, type(error).__name__, error)


class _EventFile:
    """A TensorBoard event file, written in the calling thread.

    tensorboardX's SummaryWriter hands events to a thread through a bounded queue: when that thread dies,
    as on a full disk, the queue fills and the caller waits for ever. Its event file alone cannot hang.
    """

    def __init__(self, folder: RunFolder):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        folder.tensorboard_path.mkdir(exist_ok=True)
        self._event, self._scalar, self._adds = Event, scalar, 0
        self._writer = EventsWriter(str(folder.tensorboard_path / "events"), f".{os.getpid()}")

    def add(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.write_event(self._event(wall_time=time.time(), step=step, summary=self._scalar(name, value)))
        self._adds += 1
        if self._adds % _FLUSH_EVERY == 0:
            self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """A run of Weights & Biases; without a key it keeps its files below the run folder, to be synchronised later."""

    def __init__(self, project: str, folder: pathlib.Path, settings: Mapping[str, Any]):
        import wandb

        mode = None if wandb.api.api_key else "offline"
        self._run = wandb.init(project=project, name=folder.name, dir=str(folder), config=dict(settings), mode=mode)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, "step": step})

    def close(self) -> None:
        self._run.finish()


class _Behind:
    """Makes a sink in another thread and hands it everything: what waits for a network must not make training wait.

    What it has not taken when `_WAIT` seconds are over at the end, or when its queue is full, it does not get.

    Raises (from `add` and `close`): whatever the sink raised, and TimeoutError.
    """

    def __init__(self, make: Callable[[], Sink]):
        self._make = make
        self._error: Exception | None = None
        self._queue: queue.Queue = queue.Queue(maxsize=_WAITING)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        if self._error:
            raise self._error
        try:
            self._queue.put_nowait((step, values))
        except queue.Full:
            raise TimeoutError(f"it has not taken its last {_WAITING} records") from None

    def close(self) -> None:
        if not self._error:
            self._queue.put(None, timeout=_WAIT)
            self._thread.join(_WAIT)
        if self._error:
            raise self._error
        if self._thread.is_alive():
            raise TimeoutError(f"it did not end within {_WAIT:.0f} seconds")

    def _work(self) -> None:
        try:
            sink = self._make()
            while (record := self._queue.get()) is not None:
                sink.add(*record)
            sink.close()
        except Exception as error:
            self._error = error
