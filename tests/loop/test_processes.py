"""T1, T2, T49 to T52 of whole runs on two real processes over loopback, with nothing between them but the network."""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import pytest

from rl_reasoning.edge import ConfigError, read_command
from rl_reasoning.loop import fingerprints, shares
from rl_reasoning.loop.processes import agree, own_place
from rl_reasoning.loop.setup import build
from rl_reasoning.loop.shares import SharedVerifier
from rl_reasoning.loop.stops import Stopped, Stops
from rl_reasoning.parallel.hosts import ALONE
from rl_reasoning.reporting.console import say
from rl_reasoning.tasks.pool.wire import encode_verdict
from rl_reasoning.training import checkpoints
from rl_reasoning.types import Outcome, Problem, Verdict

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = pathlib.Path(__file__).parent / "process_program.py"
CONFIG = ROOT / "experiments" / "configs" / "countdown.py"
STEPS, NAME = 3, "countdown-smoke-w_reinforce-seed0"
SETTINGS = {"warm_start.steps": 0, "warm_start.refine_steps": 0, "rl.steps": STEPS, "rl.minibatches": 1,
            "model.layers": 1, "evaluation.samples": 2, "evaluation.batch": 16, "evaluation.traced": 0,
            "mesh.fsdp": 0, "checkpoint.every": 1, "distributed.replicas_every": 1, "distributed.seconds": 120}
# Process 1 finds nothing compiled (jax keeps what process 0 compiles), so these compile fast and not well.
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_backend_optimization_level=0", "TF_CPP_MIN_LOG_LEVEL": "2"}


def start(work, devices, fault="none", **settings):
    """A process that does the run in folder `work`, or its part of it."""
    work.mkdir(exist_ok=True)
    settings = SETTINGS | {"workdir": work} | settings
    command = [sys.executable, str(PROGRAM), fault, f"--config={CONFIG}:smoke",
               *(f"--config.{name}={value}" for name, value in settings.items())]
    return subprocess.Popen(command, cwd=work, env=os.environ | ENVIRONMENT | {"JAX_NUM_CPU_DEVICES": str(devices)},
                            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def together(work, faults=("none", "none"), waits_for=(0, 1), **settings):
    """[(exit code, what it said)] of two processes of one job; those not waited for are killed after the others."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {"distributed.coordinator": f"127.0.0.1:{port}", "distributed.processes": 2} | settings
    with contextlib.ExitStack() as stack:
        processes = [start(work, 1, fault, **(job | {"distributed.process": index}))
                     for index, fault in enumerate(faults)]
        for process in processes:
            stack.callback(process.kill)
        said = {index: processes[index].communicate(timeout=400)[1] for index in waits_for}
    return [(processes[index].returncode, said[index]) for index in waits_for]


def by_script(work):
    """The same by scripts/tpu_pod.sh, which starts both: (exit code, what they said)."""
    arguments = [f"--config.{name}={value}" for name, value in (SETTINGS | {"workdir": work}).items()]
    ended = subprocess.run([ROOT / "scripts" / "tpu_pod.sh", "--local=2", "--", f"--config={CONFIG}:smoke", *arguments],
                           cwd=work, env=os.environ | ENVIRONMENT | {"PYTHON": sys.executable}, text=True,
                           capture_output=True, timeout=500, check=False)
    return ended.returncode, ended.stderr


def outcome(work):
    """Everything that a run leaves and that must not depend on how many processes did it."""
    names = ["metrics.jsonl", *(f"evaluations/{name}.jsonl" for name in ("base", f"step_{STEPS:04d}", "summary"))]
    record = work / NAME / "checkpoints" / f"step_{STEPS:04d}" / "record.json"
    return [(work / NAME / name).read_bytes() for name in names], json.loads(record.read_text())["arrays"]


class Pair:
    """What `Stops` and `SharedVerifier` ask of hosts, for the second of two processes."""

    index, count, step, is_first = 1, 2, 0, False

    def heed(self, asked, agreed):
        self.asked, self.agreed = asked, agreed

    def at(self, phase, step):
        self.place = phase


def test_t2_a_signal_waits_for_the_meeting_at_which_all_stop():
    """Nobody leaves a step alone: what was asked of one is raised in all where they meet, or where a shield ends."""
    hosts = Pair()
    with Stops(0.01, leave=pytest.fail, hosts=hosts) as stops:
        assert hosts.asked() is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert hosts.asked() == signal.SIGTERM
        stops.check()
        with pytest.raises(Stopped) as stop:
            hosts.agreed(signal.SIGTERM)
        hosts.agreed(signal.SIGTERM)  # while what was done is saved
        with pytest.raises(Stopped), stops.shield():
            pass
    assert stop.value.code == 75
    other = Pair()
    with Stops(0.01, leave=pytest.fail, hosts=other) as stops, pytest.raises(Stopped) as stop, stops.shield():
        other.agreed(signal.SIGINT)  # asked of another process, heard in an update, which is finished
    assert stop.value.code == 130


def test_each_process_judges_its_share_and_all_have_every_verdict(monkeypatch):
    judged = []

    class Echo:
        def verify_all(self, items):
            judged.extend(text for _, text in items)
            return [verdict(text) for _, text in items]

    def verdict(text):
        if text == "3":
            return Verdict(Outcome.TIMEOUT, math.nan, None, "no answer in time\nand no more")
        return Verdict(Outcome.WRONG, 0.25, text, "for example", {"reward": 0.25}, Outcome.RIGHT)

    def exchanged(hosts, own, phase):
        """The first process has judged 0, 2 and 4."""
        return ["\n".join(encode_verdict(verdict(text)).decode() for text in "024"), own]

    monkeypatch.setattr(shares, "texts", exchanged)
    problem = Problem("a", "?", "1", "task")
    found = SharedVerifier(Echo(), Pair()).verify_all([(problem, str(n)) for n in range(5)])
    assert judged == ["1", "3"]
    assert [each.answer for each in found] == ["0", "1", "2", None, "4"]
    assert [each.scorable for each in found] == [True, True, True, False, True]
    assert found[1] == verdict("1")


@pytest.mark.parametrize(("change", "named"), [
    ("distributed.processes=2", "config.distributed.processes = 2: needs distributed.coordinator, as HOST:PORT"),
    ("distributed.coordinator=here", "config.distributed.coordinator = 'here': must be HOST:PORT, or auto"),
    ("distributed.coordinator=h:1 distributed.process=1", "config.distributed.process = 1: must be below"),
    ("distributed.coordinator=auto mode=evaluate", "config.mode = 'evaluate': is done by one process"),
])
def test_t61_jobs_that_cannot_be(change, named):
    with pytest.raises(ConfigError, match=re.escape(named)):
        read_command(["run.py", f"--config={CONFIG}:smoke", *(f"--config.{each}" for each in change.split())], "")


def test_a_process_whose_devices_would_do_nothing_is_refused():
    """Its peers would wait for it in the first collective."""
    experiment = read_command(["run.py", f"--config={CONFIG}:smoke", "--config.mesh.fsdp=2"], "")
    with pytest.raises(ConfigError, match=r"mesh: 2 of the 8 devices of 2 processes; .* --config\.mesh\.fsdp=0"):
        build(experiment, Pair())


def test_t50_processes_compare_all_that_a_run_is_made_of(monkeypatch):
    """Whatever a checkpoint is refused for, another process is, except for what processes need not share."""
    told = []
    monkeypatch.setattr(Pair, "agree", lambda self, facts: told.append(facts), raising=False)
    experiment = read_command(["run.py", f"--config={CONFIG}:smoke"], "")
    lab = dataclasses.replace(build(experiment), hosts=Pair())
    agree(lab)
    assert told[0].items() >= fingerprints.surroundings(lab).items()
    assert told[0]["engine_module"] == ""
    assert told[0]["rl.steps"] == experiment.rl.steps
    assert "workdir" not in told[0]


def test_others_than_the_first_write_elsewhere_and_are_quiet(tmp_path, capsys):
    experiment = read_command(["run.py", f"--config={CONFIG}:smoke", f"--config.workdir={tmp_path}"], "")
    with own_place(experiment, Pair()) as own:
        say("nobody hears this")
        place = pathlib.Path(own.workdir)
        assert place.is_dir()
        assert dataclasses.replace(own, workdir=str(tmp_path), resume="auto") == experiment
    assert not place.exists()
    assert capsys.readouterr().err == ""
    with own_place(experiment, ALONE) as own:
        assert own is experiment


@pytest.fixture(name="alone", scope="module")
def run_of_one_process(tmp_path_factory):
    """The run on two devices of one process."""
    work = tmp_path_factory.mktemp("alone")
    process = start(work, 2)
    _, said = process.communicate(timeout=400)
    assert process.returncode == 0, said
    return outcome(work)


@pytest.mark.slow
def test_t1_t2_two_processes_stopped_by_a_signal_to_one_end_as_one_process_would(alone, tmp_path):
    """SIGTERM to process 1 in its second rollout stops both with step 1 saved, and the same settings go on,
    started by scripts/tpu_pod.sh: metrics, answers and all of the state are in the end those of one process with as
    many devices, bit for bit."""
    (code, said), (other, quiet) = together(tmp_path, ("none", "signalled"))
    assert (code, other) == (75, 75), said + quiet
    assert "stopped by SIGTERM; the same command goes on from here" in said
    assert "reward" not in quiet
    assert list(checkpoints.steps(tmp_path / NAME / "checkpoints")) == [1]
    code, said = by_script(tmp_path)
    assert code == 0, said
    assert "goes on after step 1" in said
    assert outcome(tmp_path) == alone


@pytest.mark.slow
def test_t1_a_killed_process_ends_the_others_and_one_process_goes_on(alone, tmp_path):
    """SIGKILL to process 1 in the second update: process 0 does not wait for ever and its code is not 0. What it
    saved is gone on with by one process, to the same bits."""
    [(code, said)] = together(tmp_path, ("none", "killed"), waits_for=(0,))
    assert code != 0, said
    assert list(checkpoints.steps(tmp_path / NAME / "checkpoints")) == [1]
    process = start(tmp_path, 2)
    _, said = process.communicate(timeout=400)
    assert process.returncode == 0, said
    assert outcome(tmp_path) == alone


@pytest.mark.slow
def test_t50_other_settings_are_refused_before_anything_is_written(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start(tmp_path, 1, **{"distributed.coordinator": f"127.0.0.1:{port}", "distributed.processes": 2,
                                       "distributed.process": index, "rl.samples": 4 + index}) for index in (0, 1)]
    for process in processes:
        _, said = process.communicate(timeout=200)
        assert process.returncode == 2
        assert "rl.samples is 4 in process 0 and 5 in process 1: start all processes with the same" in said
    assert not (tmp_path / NAME).exists()
