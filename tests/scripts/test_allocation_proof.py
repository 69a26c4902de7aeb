"""scripts/allocation_proof.py: where a target is crossed, ratios, going on after a stop, and every run's settings."""

import importlib.util
import json
import pathlib

import pytest

from rl_reasoning.options import check, resolve

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "allocation_proof.py"


@pytest.fixture(name="proof", scope="module")
def script():
    spec = importlib.util.spec_from_file_location("allocation_proof", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_where_a_target_is_crossed(proof):
    points = [[0, 0, 0.2], [5, 100, 0.25], [10, 220, 0.35], [15, 300, 0.2]]
    assert proof.crossing(points, 0.1) == pytest.approx((7.5, 160))
    assert proof.crossing(points, 0.05) == pytest.approx((5, 100))
    assert proof.crossing(points, 0.3) is None


def test_ratios(proof):
    assert proof.ratio([(20, 10), (20, 10)]) == "2.00 [2.00, 2.00]"
    assert proof.ratio([(40, 10), (10, 10)]).startswith("2.00 [0.00, ")  # one degree of freedom
    assert proof.ratio([(20, 10)]) == "2.00"
    assert proof.ratio([]) == "-"


@pytest.mark.parametrize("task", ["countdown", "gym", "quick"])
def test_every_run_can_be_started(proof, task, tmp_path):
    setting = proof.QUICK if task == "quick" else proof.TASKS[task]
    for method in proof.METHODS:
        experiment = proof.experiment_of(setting, tmp_path, 3, method)
        check(experiment.algorithm, resolve(experiment.algorithm, experiment.objective), experiment)
        assert experiment.seed == 3
        assert experiment.rl.steps % experiment.evaluation.every == 0


def test_it_goes_on_with_the_runs_that_are_missing(proof, tmp_path, monkeypatch, capsys):
    started = []

    def run(setting, workdir, seed, method):
        started.append((seed, method))
        if len(started) == 3:
            raise KeyboardInterrupt
        pace = 2 if method == "gvm_grpo" else 1
        return [[0, 0, 0.2], [10 / pace, 1000 / pace, 0.35], [20, 2000, 0.35]]

    monkeypatch.setattr(proof, "run", run)
    arguments = ["--quick", f"--out={tmp_path}", "--methods", "grpo", "gvm_grpo"]
    with pytest.raises(KeyboardInterrupt):
        proof.main(arguments)
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"run": ["quick", 1, "grpo"], "poi')
    assert proof.main(arguments) == 0
    assert started == [(0, "grpo"), (0, "gvm_grpo"), (1, "grpo"), (1, "grpo"), (1, "gvm_grpo")]
    assert "2.00 [2.00, 2.00]" in capsys.readouterr().out
    assert proof.main(["--report", *arguments]) == 0
    assert len(started) == 5
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    ended = [tuple(json.loads(line)["run"][1:]) for line in lines]
    assert ended == [(0, "grpo"), (0, "gvm_grpo"), (1, "grpo"), (1, "gvm_grpo")]
