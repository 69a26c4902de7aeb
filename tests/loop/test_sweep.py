"""The sweep of PSR against NSR: its cells, what they share, what is not done again, its map, and one end to end."""

import dataclasses
import functools
import importlib.util
import json
import pathlib

import numpy as np
import pytest
from test_study import fake_run
from two_arms import make_lab

from rl_reasoning.analysis.signs import Pair
from rl_reasoning.config import RL, Evaluation, Experiment
from rl_reasoning.edge import ConfigError, read_experiment
from rl_reasoning.evaluation.breadth import Side
from rl_reasoning.evaluation.paths import Path
from rl_reasoning.loop import sign_noise, sweep
from rl_reasoning.loop.study import run_units
from rl_reasoning.loop.sweep import Cell, Sweep, judge, map_rows, measured, run_sweep, sweep_units
from rl_reasoning.options import check, resolve

REPRODUCE = pathlib.Path(__file__).parents[2] / "experiments" / "reproduce"
KS = (1, 2, 4)


@pytest.fixture(name="script")
def the_script(monkeypatch):
    monkeypatch.syspath_prepend(str(REPRODUCE))
    spec = importlib.util.spec_from_file_location("signs_sweep_under_test", REPRODUCE / "signs_sweep.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(name="shared")
def settings(tmp_path):
    return Experiment(mode="compare", compare=("base",), workdir=str(tmp_path / "sweep"), rl=RL(steps=4),
                      evaluation=Evaluation(problems=6, samples=8, every=2))


@pytest.mark.parametrize("quick", [False, True])
def test_the_design_can_be_run_and_changes_one_factor_at_a_time(script, quick):
    design, shared = script.sweep(quick), script.shared_settings(quick)
    for units in sweep_units(design.cells, shared).values():
        base, *signs = units
        assert base.experiment.compare == ("base",)
        assert [unit.experiment.compare for unit in signs] == [("psr",), ("nsr",)]
        for unit in signs:
            [name] = unit.experiment.compare
            check(name, resolve(name, unit.experiment.objective), unit.experiment)
            assert unit.experiment.rl.prompts % unit.experiment.rl.minibatches == 0
            assert unit.experiment.rl.steps % unit.experiment.evaluation.every == 0
    assert set(design.ks) <= {2 ** n for n in range(20) if 2 ** n <= shared.evaluation.samples}
    if not quick:
        changed = {group for cell in design.cells if not cell.label.startswith("corner")
                   for group in cell.changes}
        assert changed >= {"rl.samples", "rl.prompts", "rl.minibatches", "objective.denominator", "rl.optimizer.name",
                           "task.countdown.high", "warm_start.steps"}


def test_cells_share_a_base_where_its_settings_are_the_same(shared):
    cells = [Cell("a", "a"), Cell("b", "b", {"rl.samples": 2}), Cell("c", "c", {"warm_start.steps": 7}, longer=1.5)]
    units = sweep_units(cells, shared)
    assert units["a"][0] is units["b"][0]
    assert units["c"][0].experiment.warm_start.steps == 7
    assert [unit.experiment.rl.steps for unit in units["c"]] == [4, 4, 6]
    assert [unit.experiment.evaluation.every for unit in units["c"]] == [2, 2, 3]
    assert units["b"][1].experiment.rl.samples == 2
    with pytest.raises(ValueError, match="one name: a"):
        Sweep([cells[0], cells[0]])
    with pytest.raises(ConfigError, match=r"rl\.sample"):
        Cell("x", "x", {"rl.sample": 2}).experiment(shared)


def test_a_sweep_goes_on_where_it_was_stopped_and_leaves_a_map(shared, monkeypatch):
    ran, asked = [], []

    def run(experiment):
        ran.append(f"{experiment.name} {experiment.seed}")
        return fake_run(experiment)

    def measure(experiment, repeats):
        asked.append((experiment.rl.samples, experiment.seed, repeats))
        return Pair(2.0, np.asarray([6.0, 8.0]), 0.9)

    monkeypatch.setattr(sweep, "run_units", lambda units: run_units(units, run))
    monkeypatch.setattr(sweep, "measured", lambda *given: measured(*given, measure))
    whole = Sweep([Cell("a", "first"), Cell("b", "second", {"rl.samples": 2})], ks=(4, 8), repeats=5, resamples=50)
    run_sweep(whole, shared, seeds=1)
    assert ran == ["a-base 0", "a-psr 0", "a-nsr 0", "b-psr 0", "b-nsr 0"]
    told = run_sweep(whole, shared, seeds=2)
    assert ran[5:] == ["a-base 1", "a-psr 1", "a-nsr 1", "b-psr 1", "b-nsr 1"]
    assert sorted(asked) == [(2, 0, 5), (2, 1, 5), (8, 0, 5), (8, 1, 5)]
    assert run_sweep(whole, shared, seeds=2) == told
    assert len(ran) == 10
    assert len(asked) == 4
    out = pathlib.Path(shared.workdir)
    assert "all cells" in told
    table = (out / "map.md").read_text()
    assert "| second |" in table
    assert "| 3, 4 |" in table
    assert "first" in (out / "map.svg").read_text()
    assert (out / "map.png").stat().st_size > 5000
    record = json.loads((out / "map.json").read_text())
    assert [each["cell"] for each in record] == ["a", "b", "all cells"]
    assert record[1]["changes"] == {"rl.samples": 2}
    assert record[0]["noise"][1] == {"noise_psr": 3.0, "noise_nsr": 4.0, "signal": 2.0, "cosine": 0.9}


def line(gain, slope, steps=3, problems=40):
    """Pass@1 rises by `gain` to the end, and Pass@2 and Pass@4 by slope times as much; the same at every problem."""
    rise = gain * np.arange(steps)[None, :, None, None] / (steps - 1) * np.asarray([1.0, slope, slope])
    level = np.linspace(0.1, 0.5, problems)[None, None, :, None]
    return Path(tuple(range(steps)), np.broadcast_to(level + rise, (2, steps, problems, 3)),
                np.zeros((2, steps, problems)))


def test_the_map_says_who_is_above_and_pools_what_can_be_compared():
    design = Sweep([Cell("same", "same"), Cell("up", "up"), Cell("down", "down"), Cell("none", "none")], ks=(2, 4),
                   margin=0.01, resamples=50)
    paths = {"same": (line(0.1, 1.0), line(0.2, 1.0)), "up": (line(0.1, 2.0), line(0.1, 0.0)),
             "down": (line(0.1, 0.0), line(0.1, 1.0)), "none": (line(-0.1, 0.0), line(0.1, 1.0))}
    noise = [{"noise_psr": 1.0, "noise_nsr": 2.0, "signal": 1.0, "cosine": 1.0}]
    found = judge(design, {name: ({"nsr": nsr, "psr": psr}, KS) for name, (nsr, psr) in paths.items()},
                  dict.fromkeys(paths, noise))
    assert [each.differences[0].side for each in found[:4]] == [Side.TIE, Side.ABOVE, Side.BELOW, Side.UNDECIDED]
    # 2 x gain x 17/32 above, 1 x below: the mean of the three that both gain in.
    assert found[4].differences[0].mean == pytest.approx((0.2 - 0.1) * 17 / 32 / 3)
    assert found[0].gains == pytest.approx((0.2, 0.1))
    words = {row[0]: row[5] for row in map_rows(found)}
    assert words == {"cell": "verdict", "same": "tie", "up": "NSR above", "down": "PSR above", "none": "no common gain",
                     "all cells": "NSR above"}


@functools.cache
def noise_of(denominator):
    """The noise of the two-armed task's first mini-batch, two of its problems with eight answers each."""
    lab = make_lab(0, algorithm="psr", prompts=4, samples=8, minibatches=2, objective={"denominator": denominator})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sign_noise, "build", lambda _: lab)
        patch.setattr(sign_noise, "base", lambda lab: lab.first())
        return sign_noise.measure_noise(lab.experiment, 48)


@pytest.mark.slow
def test_on_the_real_policy_both_signs_have_one_expected_gradient():
    found = noise_of("kept")
    assert found.cosine == pytest.approx(1.0, abs=0.15)
    assert (found.variances > 0).all()


@pytest.mark.slow
def test_its_size_is_one_under_both_denominators_once_these_are_divided_out():
    kept, every = noise_of("kept"), noise_of("all")
    assert every.cosine == pytest.approx(1.0, abs=0.15)
    assert kept.signal == pytest.approx(every.signal, rel=0.3)


@pytest.mark.slow
def test_a_sweep_from_end_to_end(shared, tmp_path):
    config = dataclasses.asdict(shared)
    config["task"]["countdown"] |= {"numbers": 2, "high": 6, "limit": 12}
    config["model"] |= {"layers": 1, "width": 16, "heads": 1, "kv_heads": 1, "head_dim": 16, "mlp": 32}
    config["warm_start"] |= {"steps": 60, "refine_steps": 0, "batch": 32}
    config["rl"] |= {"steps": 2, "prompts": 4, "samples": 4, "minibatches": 2}
    config["evaluation"] |= {"every": 1, "problems": 6, "samples": 8}
    small = read_experiment(config)
    cells = [Cell("centre", "centre"), Cell("sgd", "SGD", {"rl.optimizer.name": "sgd", "objective.denominator": "all"})]
    told = run_sweep(Sweep(cells, ks=(4,), repeats=3, resamples=50), small, seeds=1)
    assert "centre" in told
    noise = json.loads((tmp_path / "sweep" / "noise" / "sgd-seed0-3.json").read_text())
    assert set(noise) == {"noise_psr", "noise_nsr", "signal", "cosine"}
    bases = [path for path in (tmp_path / "sweep" / "bases").iterdir() if path.is_dir()]
    assert len(bases) == 1
    assert run_sweep(Sweep(cells, ks=(4,), repeats=3, resamples=50), small, seeds=1) == told
