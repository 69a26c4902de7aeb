"""experiments/run.py as a person meets it: exit codes, one message on a mistake, and nothing slow before it."""

import importlib.util
import os
import pathlib
import resource
import subprocess
import sys

import pytest

from rl_reasoning import algorithms, loop
from rl_reasoning.config import Experiment
from rl_reasoning.edge import ConfigError, read_command

ROOT = pathlib.Path(__file__).parent.parent
RUN = ROOT / "experiments" / "run.py"
CONFIG = ROOT / "experiments" / "configs" / "countdown.py"


@pytest.fixture
def no_jax(tmp_path):
    """An environment in which importing jax ends the program with code 77."""
    (tmp_path / "jax.py").write_text("raise SystemExit(77)\n")
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}


def start(*arguments, env=None, cwd=ROOT):
    env = env or os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, str(RUN), *arguments], env=env, cwd=cwd, capture_output=True, text=True,
                          timeout=120, check=False)


@pytest.fixture
def run_module():
    """experiments/run.py as a module."""
    spec = importlib.util.spec_from_file_location("run_under_test", RUN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("arguments", "parts"), [
    (["--config.algoritm=nsr"], ["config.algoritm = 'nsr'", "did you mean algorithm?"]),
    (["--config.rl.stpes", "3"], ["config.rl.stpes = '3'", "did you mean rl.steps?"]),
    (["--algorithm=nsr"], ["--algorithm", "did you mean --config.algorithm?"]),
    (["--config.rl.steps=abc"], ["config.rl.steps = 'abc'", "a whole number, 0 or more"]),
    (["--config.rl.shuffle_rewards=maybe"], ["config.rl.shuffle_rewards = 'maybe'", "true or false"]),
    (["--config.rl.steps=-1"], ["config.rl.steps = -1", "0 or more"]),
    (["--config.rl.minibatches=7"], ["config.rl.minibatches = 7", "rl.prompts = 64"]),
    (["--config.mode=trian"], ["config.mode = 'trian'", "train, compare, evaluate, latent_search, list",
                               "did you mean train?"]),
    (["--config.rl=3"], ["config.rl = '3'", "group of settings"]),
    (["--config.rl.steps"], ["--config.rl.steps"]),
    (["steps=3"], ["'steps=3'", "--config.KEY=VALUE"]),
    (["--config=missing.py"], ["missing.py", "no such file", str(ROOT)]),
    (["--config=experiments/configs/countdown.py:smoek"], ["'smoek'", "compare, every, smoke", "did you mean smoke?"]),
])
def test_t61_a_mistake_ends_at_once_with_one_message_and_code_2(arguments, parts, no_jax):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = start(*arguments, env=no_jax)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    message = ended.stderr.splitlines()
    assert len(message) == 1, ended.stderr
    assert message[0].startswith("error: ")
    for part in parts:
        assert part in message[0]
    # Seconds of processor time, since a busy machine stretches the clock's.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2.0


def test_t61_a_mistake_in_a_config_file(tmp_path, no_jax):
    file = tmp_path / "mine.py"
    file.write_text(CONFIG.read_text().replace("config.rl.samples = 8", "config.rl.sampels = 8"))
    ended = start("--config=mine.py", env=no_jax, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr == "error: config.rl.sampels = 8: no such setting; did you mean rl.samples?\n"


def test_the_no_jax_environment_notices_jax(no_jax):
    assert start("--config.algorithm=nsr", env=no_jax).returncode == 77


@pytest.mark.parametrize(("arguments", "parts"), [
    (["--config.algorithm=ngr"], ["'ngr'", "did you mean nsr"]),
    (["--config.objective.positive_wieght=0.05"], ["positive_wieght", "did you mean positive_weight"]),
    (["--config.mode=compare", "--config.compare=psr,ngr"], ["'ngr'", "did you mean nsr"]),
])
def test_t61_an_algorithm_that_cannot_be(arguments, parts):
    ended = start(*arguments)
    assert ended.returncode == 2, ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    for part in parts:
        assert part in ended.stderr


def test_help_lists_every_setting(no_jax):
    ended = start("--help", env=no_jax)
    assert ended.returncode == 0
    assert "--config.rl.optimizer.learning_rate=2e-05" in ended.stdout


def test_the_list_preset_prints_the_algorithms(tmp_path):
    ended = start(f"--config={CONFIG}:list", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    for name in algorithms.ALGORITHMS:
        assert f"\n{name} " in ended.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", [0, 3])
def test_the_experiment_is_run_and_its_exit_code_returned(code, run_module, monkeypatch):
    seen = []
    monkeypatch.setattr(loop, "run_experiment", lambda experiment: seen.append(experiment) or code)
    arguments = ["run.py", "--config.rl.steps=2", "--config.objective.positive_weight=0.05"]
    assert run_module.main(arguments) == code
    (experiment,) = seen
    assert experiment.rl.steps == 2
    assert experiment.objective == {"positive_weight": 0.05}


def test_t62_ctrl_c_ends_with_one_line_and_130(run_module, monkeypatch, capsys):
    def interrupted(experiment):
        raise KeyboardInterrupt
    monkeypatch.setattr(loop, "run_experiment", interrupted)
    assert run_module.main(["run.py"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("preset", ["", "compare", "smoke", "smoke_compare"])
def test_every_preset_can_be_run(preset, run_module, monkeypatch):
    seen = []
    monkeypatch.setattr(loop, "run_experiment", lambda experiment: seen.append(experiment) or 0)
    assert run_module.main(["run.py", f"--config={CONFIG}:{preset}"]) == 0
    assert seen[0].mode == ("compare" if "compare" in preset else "train")


def test_the_config_file_shows_the_defaults():
    """The file repeats what matters so that it reads top to bottom; it must not drift from the records."""
    assert read_command(["run.py"], str(CONFIG)) == Experiment()


def test_presets_do_not_leak_into_each_other():
    read_command(["run.py", f"--config={CONFIG}:smoke"], str(CONFIG))
    assert read_command(["run.py"], str(CONFIG)) == Experiment()
    with pytest.raises(ConfigError, match="no such preset"):
        read_command(["run.py", f"--config={CONFIG}:Smoke"], str(CONFIG))
