"""Verifiers in the loop: which runs where, what faults do to a run, and a code experiment from end to end."""

import dataclasses
import math
import pathlib

import numpy as np
import pytest
from two_arms import TwoArms, make_lab

from experiments.configs import code, countdown
from rl_reasoning import config
from rl_reasoning.edge import ConfigError, read_experiment
from rl_reasoning.evaluation.evaluate import evaluate
from rl_reasoning.keys import Role, derive
from rl_reasoning.loop import run_experiment, setup
from rl_reasoning.loop.reinforce import alarm, begin, make_trainer, train_step
from rl_reasoning.loop.setup import build, make_verifier
from rl_reasoning.reporting.results import collect
from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.rollouts import NothingScored
from rl_reasoning.tasks.pool import InProcess, VerifierPool
from rl_reasoning.types import Outcome, Verdict
from tests.models import gguf_fixture

HANGS = "verifiers_for_loops:hang_on_left"


@pytest.fixture(autouse=True)
def modules(monkeypatch, request):
    """Verifier processes find the modules of this folder as this process does."""
    monkeypatch.syspath_prepend(str(request.path.parent))


def test_the_task_says_where_its_verifier_runs():
    assert isinstance(make_verifier(TwoArms(), config.Verifier()), InProcess)
    with make_verifier(TwoArms(), config.Verifier(function=HANGS, workers=1)) as pool:
        assert isinstance(pool, VerifierPool)


def test_t34_answers_that_hang_are_unscorable_and_the_step_goes_on(capsys):
    """T18, T34: about a quarter of the answers hang; the others train, the metric and the alarm say so."""
    lab = make_lab(0, algorithm="grpo")
    with VerifierPool(lab.task, config.Verifier(function=HANGS, workers=2, seconds=0.2)) as pool:
        trainer = make_trainer(dataclasses.replace(lab, verifier=pool), "grpo")
        first = lab.first()
        _, metrics, timings = train_step(trainer, begin(trainer, first), 1, first)
    assert 0 < metrics["reward/unscorable"] < 1
    assert np.isfinite(list(metrics.values())).all()
    assert timings["verifier/replaced"] == metrics["reward/unscorable"] * 64
    assert "answers could not be scored" in capsys.readouterr().err


@pytest.mark.parametrize(("bad", "said"), [(2, False), (3, True)])
def test_the_alarm_sounds_above_two_percent(bad, said, capsys):
    fine, lost = Verdict(Outcome.WRONG, 0.0, None, ""), Verdict(Outcome.TIMEOUT, math.nan, None, "too slow")
    alarm([[lost] * bad, [fine] * (100 - bad)], "step 7")
    expected = "WARNING: step 7: 3 of 100 answers could not be scored; 3 times: too slow\n"
    assert capsys.readouterr().err == (expected if said else "")


class Unlucky(TwoArms):
    """No verdict on the first problem."""

    lost = ("pull 0",)

    def verify(self, problem, text):
        if problem.id in self.lost:
            raise RuntimeError("no grader")
        return super().verify(problem, text)


def test_a_problem_without_any_verdict_leaves_pass_at_k_and_is_counted(tmp_path):
    """Pass@k is over the seven others, in the evaluation and in what is read back from the folder."""
    lab = make_lab(0, task=Unlucky())
    arguments = lab.experiment.evaluation, derive(0, Role.EVALUATION, 0), 0
    summary = evaluate(lab.policy, lab.first(), lab.verifier, lab.held_out, *arguments).summary
    others = evaluate(lab.policy, lab.first(), lab.verifier, lab.held_out[1:], *arguments).summary
    assert summary["unscorable_problems"] == 1
    assert summary["pass_at_k"] == others["pass_at_k"]
    folder = RunFolder(tmp_path / "run")
    folder.write_config(lab.experiment, ["test"])
    folder.write_evaluation({"label": "base", "algorithm": "base", "seed": 0, "step": 0, **summary}, [])
    (result,) = collect([folder])
    assert result.per_problem.shape[1] == 7


def test_t36_an_evaluation_without_any_verdict_stops_with_the_reason():
    lab = make_lab(0, task=type("Lost", (Unlucky,), {"lost": tuple(f"pull {i}" for i in range(8))})())
    with pytest.raises(NothingScored, match="no grader"):
        evaluate(lab.policy, lab.first(), lab.verifier, lab.held_out, lab.experiment.evaluation,
                 derive(0, Role.EVALUATION, 0), 0)


def test_t36_a_run_whose_verifier_always_fails_stops_with_code_1(tmp_path, capsys):
    experiment = read_experiment(countdown.get_config("smoke"))
    verifier = config.Verifier(function="verifiers_for_loops:broken", workers=1)
    warm_start = dataclasses.replace(experiment.warm_start, steps=0, refine_steps=0)
    changed = dataclasses.replace(experiment, workdir=str(tmp_path), verifier=verifier, warm_start=warm_start)
    assert run_experiment(changed) == 1
    assert "stopped: no answer of the evaluation could be scored; the first: the verifier raised ImportError" in (
        capsys.readouterr().err)


@pytest.mark.parametrize("name", ["no_such_module:f", "verifiers_for_loops:nothing"])
def test_an_own_verifier_that_is_not_there_is_an_error_of_the_settings(name):
    experiment = read_experiment(countdown.get_config("smoke"))
    with pytest.raises(ConfigError, match=name.partition(":")[2] if "nothing" in name else "no_such_module"):
        build(dataclasses.replace(experiment, verifier=config.Verifier(function=name)))


@pytest.mark.parametrize(("change", "named"), [
    ({"task": {"kind": "code", "code": {"path": ""}}}, r"task\.code\.path"),
    ({"task": {"kind": "code", "code": {"path": "x", "seconds": 20.0}}}, r"verifier\.seconds = 5\.0: .* at least 45"),
    ({"task": {"kind": "code", "code": {"path": "x", "memory": 600}}, "verifier": {"seconds": 20.0}}, "memory = 600"),
    ({"verifier": {"function": "score"}}, "module:function"),
    ({"task": {"code": {"isolation": "nmae"}}}, "namespace, landlock, none"),
])
def test_t61_settings_of_verifiers_that_cannot_be(change, named):
    with pytest.raises(ConfigError, match=named):
        read_experiment(change)


def test_t42_running_without_isolation_is_said_loudly(monkeypatch, capsys):
    monkeypatch.setattr("rl_reasoning.tasks.code.task.reach", lambda weakest: weakest)
    settings = read_experiment(code.get_config("")).task.code
    setup.make_code(dataclasses.replace(settings, isolation="none"))
    assert "isolation level none\nWARNING: programs that the policy writes run without isolation" in (
        capsys.readouterr().err)


def test_t45_skipped_rows_are_named_before_the_first_step(tmp_path, capsys):
    good = pathlib.Path(code.get_config("").task.code.path)
    path = tmp_path / "rows.jsonl"
    path.write_text(good.read_text() + "{broken\n")
    setup.make_code(config.Code(path=str(path)))
    assert "rows.jsonl, line 41 skipped" in capsys.readouterr().err


def test_the_code_example_runs_from_end_to_end(tmp_path, capsys):
    """Its smoke preset with a tiny random model in place of the real one: sandbox, pool, loop and report."""
    settings = read_experiment(code.get_config("smoke"))
    model = dataclasses.replace(settings.model, source=str(gguf_fixture.write(tmp_path / "tiny.gguf")))
    experiment = dataclasses.replace(settings, workdir=str(tmp_path), model=model)
    assert run_experiment(experiment) == 0
    folder = RunFolder(tmp_path / "code-smoke-grpo-seed0")
    assert "code sandbox: isolation level namespace" in capsys.readouterr().err
    assert [line["reward/unscorable"] for line in folder.metrics("rl")] == [0.0]
    assert {sample["outcome"] for sample in folder.samples("base")} == {"unparsable"}
    assert '"verifier/isolation_level": 2.0' in (folder.path / "timings.jsonl").read_text()
