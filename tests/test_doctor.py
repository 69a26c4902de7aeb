"""What the doctor says of a machine, and that it notices what is broken."""

import re

import pytest

from rl_reasoning import doctor
from rl_reasoning.config import Countdown
from rl_reasoning.tasks.pool import InProcess
from rl_reasoning.training import checkpoints


class Raises(doctor.CountdownTask):
    """A task whose verifier does not work."""

    def verify(self, problem, text):
        raise OSError("no grader")


QUICK = {name: check for name, check in doctor.CHECKS.items() if name != "smoke step"}


def test_a_machine_that_runs_the_tests_is_fit(tmp_path, capsys):
    assert doctor.main([str(tmp_path / "runs")], QUICK) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [re.match(r"(?:ok|warning) +([a-z ]+): .", line)[1] for line in lines[:-1]] == list(QUICK)
    assert lines[-1] == "this machine is fit"
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize(("name", "broken", "said"), [
    ("versions", {"installed_versions": lambda: {"python": "3", "flax": "not installed"}}, "flax not installed: pip"),
    ("mesh", {"jnp": type("Broken", (), {"sum": staticmethod(lambda _: 1e9)})}, r"a sum over 8 devices gave 1\d+"),
    ("workers", {"VerifierPool": lambda task, settings: InProcess(Raises(Countdown()))}, "could not be scored"),
])
def test_what_nothing_can_do_without_makes_it_unfit(tmp_path, capsys, monkeypatch, name, broken, said):
    for target, value in broken.items():
        monkeypatch.setattr(doctor, target, value)
    assert doctor.main([str(tmp_path)], {name: doctor.CHECKS[name]}) == 1
    out = capsys.readouterr().out
    assert re.search(rf"UNFIT +{name}: .*{said}", out)
    assert out.endswith("this machine is not fit\n")


def test_what_is_only_scarce_is_a_warning(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "MEMORY_LOW", 2**60)
    monkeypatch.setattr(doctor, "DISK_LOW", 2**60)
    monkeypatch.setattr(doctor, "reach", lambda weakest: "landlock")
    names = ("memory", "disk", "sandbox")
    assert doctor.main([str(tmp_path)], {name: doctor.CHECKS[name] for name in names}) == 0
    assert capsys.readouterr().out.count("warning ") == 3


def test_a_work_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert doctor.main([str(tmp_path / "file" / "runs")]) == 1
    assert "UNFIT    disk: " in capsys.readouterr().out


@pytest.mark.slow
def test_the_smoke_step_trains_and_notices_a_disk_that_writes_something_else(tmp_path, monkeypatch):
    assert re.match(r"one step, \d+ bytes saved and read back", doctor.step(tmp_path))
    original = checkpoints.restore

    def flipped(path, expected):
        arrays = original(path, expected)
        return arrays | {"updates": arrays["updates"] + 1}

    monkeypatch.setattr(checkpoints, "restore", flipped)
    with pytest.raises(doctor.Unfit, match="not read back as it was written"):
        doctor.step(tmp_path)
