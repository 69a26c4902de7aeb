"""Metrics to the run folder and to TensorBoard."""

import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from rl_reasoning.reporting.run_folder import RunFolder

_FLUSH_EVERY = 20
_log = logging.getLogger(__name__)


class MetricWriter:
    """Writes each step's numbers to the run folder and, where tensorboardX is installed, to TensorBoard.

    The run folder is the record: a failure there is raised. TensorBoard is a convenience: its first
    failure is logged as one warning, and from then on it gets nothing while the folder goes on.
    """

    def __init__(self, folder: RunFolder):
        self.folder = folder
        self._events = None
        try:
            self._events = _EventFile(folder)
        except Exception as error:  # whatever a third-party writer raises must not stop training
            self._without_tensorboard(error)

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def metrics(self, step: int, phase: str, values: Mapping[str, Any]) -> None:
        """Records the step's metrics; see `RunFolder.append_metrics` for what is refused."""
        self.folder.append_metrics(step, phase, values)
        self._to_tensorboard(step, phase, values)

    def timings(self, step: int, phase: str, values: Mapping[str, Any]) -> None:
        """Records the step's clock readings: "time/..." in seconds, "tokens_per_second"."""
        self.folder.append_timings(step, phase, values)
        self._to_tensorboard(step, phase, values)

    def close(self) -> None:
        """Writes out what TensorBoard's file still buffers. The run folder buffers nothing."""
        events, self._events = self._events, None
        if events is not None:
            try:
                events.close()
            except Exception as error:
                self._without_tensorboard(error)

    def _to_tensorboard(self, step: int, phase: str, values: Mapping[str, Any]) -> None:
        if self._events is None:
            return
        try:
            self._events.add(step, {f"{phase}/{name}": float(value) for name, value in values.items()})
        except Exception as error:
            self._without_tensorboard(error)

    def _without_tensorboard(self, error: Exception) -> None:
        self._events = None
        _log.warning(
            "TensorBoard gets no more of this run (%s: %s); metrics.jsonl goes on", type(error).__name__, error
        )


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
