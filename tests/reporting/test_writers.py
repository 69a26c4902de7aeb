"""T63: the run folder is complete whatever TensorBoard does."""

import logging
import sys

import pytest
import tensorboardX.event_file_writer
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.reporting.writers import MetricWriter


def scalars(folder):
    """{(tag, step): value} of the folder's event files: records of length, checksum, bytes, checksum."""
    found = {}
    for path in folder.tensorboard_path.iterdir():
        content, place = path.read_bytes(), 0
        while place < len(content):
            size = int.from_bytes(content[place : place + 8], "little")
            record = content[place + 12 : place + 12 + size]
            assert masked_crc32c(record).to_bytes(4, "little") == content[place + 12 + size : place + 16 + size]
            event = Event.FromString(record)
            found.update({(value.tag, event.step): value.simple_value for value in event.summary.value})
            place += 16 + size
    return found


def write_steps(folder, steps=3):
    with MetricWriter(folder) as writer:
        for step in range(1, steps + 1):
            writer.metrics(step, "rl", {"reward/mean": 0.5 * step})
            writer.timings(step, "rl", {"time/rollout": 0.25})


def test_both_get_every_step(tmp_path):
    folder = RunFolder(tmp_path)
    write_steps(folder)
    assert [record["reward/mean"] for record in folder.metrics()] == [0.5, 1.0, 1.5]
    assert [record["time/rollout"] for record in folder.timings()] == [0.25] * 3
    expected = {("rl/reward/mean", step): 0.5 * step for step in (1, 2, 3)}
    assert scalars(folder) == expected | {("rl/time/rollout", step): 0.25 for step in (1, 2, 3)}


@pytest.mark.parametrize("broken", ["__init__", "write_event", "flush", "close"])
def test_t63_a_broken_tensorboard_stops_nothing_and_warns_once(tmp_path, monkeypatch, caplog, broken):
    def fails(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(tensorboardX.event_file_writer.EventsWriter, broken, fails)
    folder = RunFolder(tmp_path)
    with caplog.at_level(logging.WARNING):
        write_steps(folder, steps=25)
    assert [record["step"] for record in folder.metrics()] == list(range(1, 26))
    assert len(folder.timings()) == 25
    assert caplog.text.count("TensorBoard gets no more of this run (OSError: no space left on device)") == 1


def test_t63_a_missing_tensorboard_stops_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
    folder = RunFolder(tmp_path)
    with caplog.at_level(logging.WARNING):
        write_steps(folder)
    assert len(folder.metrics()) == 3
    assert caplog.text.count("metrics.jsonl goes on") == 1


def test_a_broken_run_folder_is_an_error(tmp_path):
    folder = RunFolder(tmp_path)
    (tmp_path / "metrics.jsonl").mkdir()
    with MetricWriter(folder) as writer, pytest.raises(IsADirectoryError):
        writer.metrics(1, "rl", {"reward/mean": 0.5})
