"""T63: the run folder is complete whatever TensorBoard and Weights & Biases do."""

import logging
import sys
import threading
import types

import pytest
import tensorboardX.event_file_writer
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from rl_reasoning.reporting import writers
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


class FakeWandb:
    """What the writer uses of wandb; `broken` names a call that raises, or with "hang:" before it one that stays."""

    def __init__(self, broken=""):
        self.broken, self.logged, self.started, self.finished = broken, [], {}, 0
        self.api = types.SimpleNamespace(api_key=None)

    def _call(self, name):
        if self.broken == name:
            raise ConnectionError("no network")
        if self.broken == f"hang:{name}":
            threading.Event().wait()

    def init(self, **settings):
        self._call("init")
        self.started = settings
        return self

    def log(self, values):
        self._call("log")
        self.logged.append(values)

    def finish(self):
        self._call("finish")
        self.finished += 1


def wandb_run(tmp_path, monkeypatch, module, steps=3):
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr(writers, "_WAIT", 0.2)
    folder = RunFolder(tmp_path / "a-run")
    folder.write_config({"wandb": "my-project", "seed": 4}, ["x"], {"jax": "1"})
    write_steps(folder, steps)
    assert [record["step"] for record in folder.metrics()] == list(range(1, steps + 1))
    assert len(folder.timings()) == steps
    assert scalars(folder)[("rl/reward/mean", 1)] == 0.5


def test_weights_and_biases_gets_the_same_numbers_where_it_is_asked_for(tmp_path, monkeypatch):
    fake = FakeWandb()
    wandb_run(tmp_path, monkeypatch, fake)
    assert [values for values in fake.logged if "rl/reward/mean" in values] == [
        {"rl/reward/mean": 0.5 * step, "step": step} for step in (1, 2, 3)]
    assert fake.finished == 1
    assert (fake.started["project"], fake.started["name"], fake.started["config"]["seed"]) == ("my-project", "a-run", 4)
    assert fake.started["mode"] == "offline", "without a key nothing is asked and nothing is sent"
    other = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", other)
    write_steps(RunFolder(tmp_path / "not-asked"))
    assert not other.started


@pytest.mark.parametrize("broken", ["init", "log", "finish", "hang:init", "hang:log", "hang:finish", "absent"])
def test_t63_weights_and_biases_that_fail_stop_nothing_and_warn_once(tmp_path, monkeypatch, caplog, broken):
    with caplog.at_level(logging.WARNING):
        wandb_run(tmp_path, monkeypatch, None if broken == "absent" else FakeWandb(broken))
    assert caplog.text.count("Weights & Biases gets no more of this run") == 1


def test_t63_a_queue_that_nobody_empties_ends_in_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(writers, "_WAITING", 5)
    with caplog.at_level(logging.WARNING):
        wandb_run(tmp_path, monkeypatch, FakeWandb("hang:log"), steps=20)
    assert caplog.text.count("it has not taken its last 5 records") == 1


def full(folder, monkeypatch, times):
    """The disk has no room for the first few lines."""
    append, calls = folder.append_metrics, []

    def limited(*args):
        calls.append(args)
        if len(calls) <= times:
            raise OSError(28, "No space left on device")
        append(*args)

    monkeypatch.setattr(folder, "append_metrics", limited)


def test_t9_lines_wait_while_the_disk_is_full_and_are_written_in_order(tmp_path, monkeypatch, caplog):
    folder = RunFolder(tmp_path)
    full(folder, monkeypatch, times=3)
    write_steps(folder, steps=4)
    assert [record["step"] for record in folder.metrics()] == [1, 2, 3, 4]
    assert [record["step"] for record in folder.timings()] == [1, 2, 3, 4]
    assert "No space left on device; 1 lines wait in memory" in caplog.text


def test_t9_lines_that_never_find_room_are_an_error_and_hide_no_other(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    full(folder, monkeypatch, times=99)
    with pytest.raises(OSError, match=r"the disk is full: 6 lines of .* are lost"):
        write_steps(folder)
    writer = MetricWriter(folder)
    writer.metrics(1, "rl", {"reward/mean": 0.5})
    writer.__exit__(KeyError, KeyError(), None)  # the error of whoever writes is the one to be seen
