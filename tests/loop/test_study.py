"""Studies: what is run and what is not run again, paths as they are read back, and the scripts' runs."""

import dataclasses
import importlib.util
import json
import pathlib
import sys

import numpy as np
import pytest

from rl_reasoning.config import RL, Evaluation, Experiment
from rl_reasoning.evaluation.claims import WEIGHTS
from rl_reasoning.evaluation.pass_at_k import pass_at_k
from rl_reasoning.evaluation.summary import Tally
from rl_reasoning.loop import study
from rl_reasoning.loop.study import Study, StudyStopped, Unit, read_paths, run_study, run_units
from rl_reasoning.options import check, resolve
from rl_reasoning.reporting.run_folder import RunFolder, new_folder

REPRODUCE = pathlib.Path(__file__).parents[2] / "experiments" / "reproduce"
PROBLEMS, SAMPLES = 6, 8


def rights(algorithm, seed, step):
    """How many of 8 answers to each problem are right: made up, and rising with the steps."""
    return [(problem + seed + step * len(algorithm) // 4) % (SAMPLES + 1) for problem in range(PROBLEMS)]


def records(counts):
    for problem, right in enumerate(counts):
        for sample in range(SAMPLES):
            good = sample < right
            yield {"problem": f"p{problem}", "sample": sample, "prompt": "?", "text": "x", "answer": str(good),
                   "outcome": "right" if good else "wrong", "reward": float(good), "reason": "",
                   "logprob": -1.0 - problem, "length": 4, "stop_reason": "eos"}


def fake_run(experiment, fail_at=None):
    """Leaves the folders that mode compare leaves; with `fail_at` it stops before that algorithm."""
    parent = new_folder(experiment.workdir, f"{experiment.name}-seed{experiment.seed}")
    for algorithm in experiment.compare:
        folder = RunFolder(parent / algorithm)
        folder.write_config(dataclasses.replace(experiment, algorithm=algorithm), ["x"])
        if algorithm == fail_at:
            return 1
        for step in [0] if algorithm == "base" else range(2, experiment.rl.steps + 1, 2):
            tally, counts = Tally(), rights(algorithm, experiment.seed, step)
            tally.add(records(counts))
            label = "base" if algorithm == "base" else f"step_{step:04d}"
            folder.write_evaluation({"label": label, "algorithm": algorithm, "seed": experiment.seed, "step": step,
                                     **tally.summary(SAMPLES, 20, 0)}, records(counts))
    return 0


@pytest.fixture
def shared(tmp_path):
    return Experiment(mode="compare", compare=("base", "psr"), workdir=str(tmp_path / "study"), rl=RL(steps=4),
                      evaluation=Evaluation(problems=PROBLEMS, samples=SAMPLES))


def units_of(shared):
    return [Unit(dataclasses.replace(shared, name="one", compare=("base", "psr")), {"base": "base", "psr": "psr"}),
            Unit(dataclasses.replace(shared, name="two", compare=("nsr",),
                                     rl=dataclasses.replace(shared.rl, steps=6)), {"nsr": "slow"})]


def test_finished_runs_are_not_run_again_and_a_stop_is_gone_on_from(shared):
    units, called = units_of(shared), []

    def run(experiment, fail_at=None):
        called.append(experiment.name)
        return fake_run(experiment, fail_at)

    with pytest.raises(StudyStopped, match="one, seed 0 ended with code 1") as stop:
        run_units(units, lambda experiment: run(experiment, fail_at="psr"))
    assert stop.value.code == 1
    with pytest.raises(ValueError, match="one, seed 0: psr is not finished"):
        read_paths(units)
    run_units(units, run)
    run_units(units, run)
    assert called == ["one", "one", "two"]


def test_paths_are_what_was_evaluated(shared):
    units = [unit for seed in (0, 1) for unit in units_of(dataclasses.replace(shared, seed=seed))]
    run_units(units, fake_run)
    paths, ks = read_paths(units)
    assert set(paths) == {"psr", "slow"}
    assert (paths["psr"].steps, paths["slow"].steps) == ((0, 2, 4), (0, 2, 4, 6))
    assert paths["slow"].pass_at.shape == (2, 4, PROBLEMS, len(ks))
    for seed in (0, 1):
        for at, (algorithm, step) in enumerate([("base", 0), ("nsr", 2), ("nsr", 4), ("nsr", 6)]):
            expected = pass_at_k(np.array(rights(algorithm, seed, step)), np.full(PROBLEMS, SAMPLES), ks)
            np.testing.assert_allclose(paths["slow"].pass_at[seed, at], expected)
    np.testing.assert_allclose(paths["psr"].entropy[0, 0], (1 + np.arange(PROBLEMS)) / 4)


def test_a_study_leaves_table_verdicts_picture_and_report(shared, monkeypatch):
    monkeypatch.setattr(study, "run_units", lambda units: run_units(units, fake_run))
    from rl_reasoning.evaluation.claims import judge_method

    whole = Study("x", "A study", units_of, lambda paths, ks, step: judge_method("psr", ("slow",), paths, ks, step, 50),
                  pair=("psr", "slow"), seeds=2)
    told = run_study(whole, shared, seeds=2)
    assert "(1) PSR is above each rival at k=1: " in told
    out = pathlib.Path(shared.workdir)
    assert {"verdicts.md", "verdicts.json", "study.svg", "study.png", "report.html"} <= {
        path.name for path in out.iterdir()}
    judged = json.loads((out / "verdicts.json").read_text())
    assert [each["number"] for each in judged] == list("1234")
    assert "| slow |" in (out / "verdicts.md").read_text()


@pytest.fixture
def script(monkeypatch):
    def load(name):
        monkeypatch.syspath_prepend(str(REPRODUCE))
        spec = importlib.util.spec_from_file_location(f"{name}_under_test", REPRODUCE / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.STUDY, sys.modules["recipes"].recipe

    return load


@pytest.mark.parametrize(("name", "needed"), [
    ("negative_reinforcement", {"base", "psr", "nsr", "reinforce", "grpo", "ppo", *WEIGHTS}),
    ("pacs", {"base", "pacs", "ppo", "grpo"}), ("gppo", {"base", "gppo", "ppo", "cispo", "clip_higher"})])
def test_each_script_s_runs_can_be_run_and_cover_its_claims(name, needed, script):
    whole, recipe = script(name)
    for task in ("countdown", "path"):
        for quick in (False, True):
            units = whole.units(recipe(task, quick))
            assert {path for unit in units for path in unit.paths.values()} == needed
            assert set(whole.pair) <= needed
            for unit in units:
                every = unit.experiment.evaluation.every
                assert unit.experiment.rl.steps % every == 0, "the last evaluation is one along the way"
                for algorithm in set(unit.experiment.compare) - {"base"}:
                    check(algorithm, resolve(algorithm, unit.experiment.objective), unit.experiment)
