"""Which folder a run writes to, and what its status says of it."""

import contextlib
import dataclasses
import json

import pytest

from rl_reasoning.config import RL, Experiment
from rl_reasoning.edge import ConfigError
from rl_reasoning.loop.folders import STATUS, is_finished, opened, work_folder


@pytest.fixture(name="settings")
def some_settings(tmp_path):
    return Experiment(workdir=str(tmp_path))


def begin(settings, **changes):
    """Begins a run and is interrupted; returns the folder's name."""
    with contextlib.suppress(KeyboardInterrupt), opened(dataclasses.replace(settings, **changes), "run") as path:
        assert json.loads((path / STATUS).read_text())["status"] == "running"
        raise KeyboardInterrupt
    assert not is_finished(path)
    return path.name


def test_auto_goes_on_with_what_is_unfinished_and_begins_anew_after_what_is_finished(settings, capsys):
    assert begin(settings) == begin(settings) == "run"
    assert "where a run of the same settings is unfinished" in capsys.readouterr().err
    with opened(settings, "run") as path:
        assert path.name == "run"
    assert is_finished(path)
    assert begin(settings) == begin(settings) == "run-2"


def test_never_begins_anew(settings):
    assert [begin(settings), begin(settings, resume="never"), begin(settings)] == ["run", "run-2", "run-2"]


def test_other_settings_begin_beside_it_and_the_difference_is_said(settings, capsys):
    begin(settings)
    other = dataclasses.replace(settings, rl=RL(steps=3))
    assert begin(other) == "run-2"
    assert "run has other settings: rl.steps 70 -> 3; it is unfinished, and a new run begins" in capsys.readouterr().err
    assert begin(settings) == "run"  # and each goes on with its own
    assert begin(other, checkpoint=dataclasses.replace(settings.checkpoint, every=5)) == "run-2"


def test_t6_always_refuses_other_settings_unless_told_to_take_them(settings):
    always = dataclasses.replace(settings, resume="always", rl=RL(steps=3))
    with pytest.raises(ConfigError, match="there is no run run in"):
        begin(always)
    begin(settings)
    with pytest.raises(ConfigError, match=r"run has other settings: rl\.steps 70 -> 3\. Give the same settings, or"):
        begin(always)
    assert begin(always, resume_changed=True) == "run"


def test_a_folder_that_another_run_writes_to_is_left_alone(settings, capsys):
    with opened(settings, "run"):
        with pytest.raises(ConfigError, match=r"config\.resume = 'always': .* is in use by process"):
            begin(settings, resume="always")
        assert begin(settings) == "run-2"
        assert "is in use by process" in capsys.readouterr().err


def test_what_is_no_number_is_no_run_of_this_name(settings, tmp_path):
    begin(settings)
    (tmp_path / "run-old").mkdir()
    (tmp_path / "run-7").mkdir()  # of a version that wrote no status: left alone
    assert begin(settings) == "run"


def test_t61_a_work_folder_that_cannot_be_is_named_before_anything_runs(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"config\.workdir = .*file/runs.*name a folder that you may write to"):
        work_folder(Experiment(workdir=str(tmp_path / "file" / "runs")))
    assert work_folder(Experiment(workdir=str(tmp_path / "new" / "runs"))).is_dir()
