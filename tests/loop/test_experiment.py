"""Whole experiments at toy size: what they leave behind, that they repeat, and that faults are named."""

import dataclasses
import json

import numpy as np
import pytest
from two_arms import TwoArms, make_lab

from experiments.configs import countdown
from rl_reasoning import rollouts
from rl_reasoning.edge import ConfigError, read_experiment
from rl_reasoning.evaluation.evaluate import evaluate
from rl_reasoning.keys import Role, derive
from rl_reasoning.loop import experiment as experiments
from rl_reasoning.loop import run_experiment
from rl_reasoning.loop.reinforce import begin, make_trainer, train_step
from rl_reasoning.loop.setup import build
from rl_reasoning.loop.watch import TrainingFailed
from rl_reasoning.models.decoder import initialize
from rl_reasoning.reporting.glossary import METRICS
from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.training import checkpoints

CANARY, SECRETS = "canary-5d41402abc4b2a76", ("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY")


def smoke(workdir, **changes):
    return dataclasses.replace(read_experiment(countdown.get_config("smoke")), workdir=str(workdir), **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patched:
        for name in SECRETS:
            patched.setenv(name, CANARY)
        assert run_experiment(smoke(workdir)) == 0
    return workdir / "countdown-smoke-w_reinforce-seed0"


def test_the_run_folder_holds_what_people_look_for(finished):
    folder = RunFolder(finished)
    assert [line["step"] for line in folder.metrics("rl")] == [1, 2, 3]
    base, last = folder.evaluations()
    assert (base["label"], last["label"]) == ("base", "step_0003")
    assert len(list(folder.samples("base"))) == base["problems"] * base["samples"]
    assert "<svg" in folder.report_path.read_text()
    assert any(folder.tensorboard_path.iterdir())
    assert folder.config()["config"]["rl"]["steps"] == 3
    for metric in ("reward/mean", "policy/entropy", "optimizer/gradient_norm", "mismatch/max", "groups/mixed"):
        assert np.isfinite([line[metric] for line in folder.metrics("rl")]).all()


def test_t60_what_the_environment_hides_is_nowhere(finished):
    """Tokens and passwords are not in settings, metrics, events, answers, checkpoints, reports or compiled programs."""
    files = [path for path in finished.parent.rglob("*") if path.is_file()]
    assert {"config.json", "metrics.jsonl", "record.json", "report.html", "status.json"} <= {
        path.name for path in files}
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]


def test_the_glossary_explains_every_metric(finished):
    written = set().union(*RunFolder(finished).metrics("rl")) - {"step", "phase"}
    assert written <= set(METRICS)


def test_sampler_and_trainer_agree_at_every_step(finished):
    """T26 in the loop: the first update of a step sees the log-probabilities that were sampled."""
    assert max(line["mismatch/max"] for line in RunFolder(finished).metrics("rl")) < 1e-5


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(finished, tmp_path):
    """T8, T65: a second run in another folder, its base trained again."""
    run_experiment(smoke(tmp_path))
    run_experiment(smoke(tmp_path, seed=1))
    again, other = tmp_path / finished.name, tmp_path / "countdown-smoke-w_reinforce-seed1"
    for name in ("metrics.jsonl", "evaluations/base.jsonl", "evaluations/step_0003.jsonl", "evaluations/summary.jsonl"):
        assert (again / name).read_bytes() == (finished / name).read_bytes(), name
        assert (other / name).read_bytes() != (finished / name).read_bytes(), name


def test_the_base_is_kept_and_the_checkpoint_gives_the_evaluated_policy(finished):
    lab = build(smoke(finished.parent))
    parameters = checkpoints.restore_policy(finished / "checkpoints" / "step_0003", lab.policy.config)
    result = evaluate(lab.policy, parameters, lab.verifier, lab.held_out, lab.experiment.evaluation,
                      derive(0, Role.EVALUATION, 0), 0)
    assert result.summary["right"] == RunFolder(finished).evaluations()[-1]["right"]
    trained_once = list((finished.parent / "bases").iterdir())
    experiments.base(lab)
    assert list((finished.parent / "bases").iterdir()) == trained_once


def test_evaluation_does_not_depend_on_batches_or_on_the_problems_order(finished):
    """T28: every answer has its own noise."""
    lab = build(smoke(finished.parent))
    parameters, settings = initialize(lab.policy.config, derive(0, Role.INITIALIZE, 0)), lab.experiment.evaluation

    def drawn(problems, batch):
        result = evaluate(lab.policy, parameters, lab.verifier, problems, dataclasses.replace(settings, batch=batch),
                          derive(0, Role.EVALUATION, 0), 0)
        return {(problem.id, sample): (text, ids[:length], logprobs[:length])
                for part in result.rollouts for found in [part.completions]
                for problem, *rows in zip(part.problems, part.texts, found.ids, found.lengths, found.logprobs,
                                          strict=True)
                for sample, (text, ids, length, logprobs) in enumerate(zip(*rows, strict=True))}

    one, other = drawn(lab.held_out, 128), drawn(lab.held_out[::-1], 48)
    assert len(one) == 128
    assert one.keys() == other.keys()
    # Products of other shapes round in other places: a draw that lies within 1e-6 of a boundary may fall on its other
    # side, on some machines. With another answer's noise nearly all would differ.
    assert sum(one[answer][0] != other[answer][0] for answer in one) <= 2
    for answer, (_, ids, logprobs) in one.items():
        _, again, also = other[answer]
        common = min(len(ids), len(again))
        same = np.cumprod(ids[:common] == again[:common]).astype(bool)
        np.testing.assert_allclose(logprobs[:common][same], also[:common][same], atol=1e-5)


def test_compare_gives_every_algorithm_the_same_base_and_one_report(tmp_path):
    assert run_experiment(dataclasses.replace(smoke(tmp_path), mode="compare", compare=("base", "nsr", "ppo"))) == 0
    parent = tmp_path / "countdown-smoke-seed0"
    assert {path.name for path in parent.iterdir()} >= {"base", "nsr", "ppo", "report.html"}
    configs = [json.loads((parent / name / "config.json").read_text())["config"] for name in ("nsr", "ppo")]
    assert [config["algorithm"] for config in configs] == ["nsr", "ppo"]
    assert "loss/value" in RunFolder(parent / "ppo").metrics("rl")[0]
    first = [RunFolder(parent / name).metrics("rl")[0]["reward/mean"] for name in ("nsr", "ppo")]
    assert first[0] == first[1]


def test_a_verifier_that_is_broken_stops_the_run_and_is_not_a_reward_of_zero():
    """T36."""
    class Broken(TwoArms):
        def verify(self, problem, text):
            raise ImportError("no grader")

    trainer = make_trainer(make_lab(0, task=Broken()), "reinforce")
    first = trainer.lab.first()
    with pytest.raises(TrainingFailed, match=r"no answer of step 1 could be scored; .*no grader"):
        train_step(trainer, begin(trainer, first), 1, first)


def test_unscorable_answers_leave_baseline_and_gradient():
    """T18: a crash on some answers trains as if they had not been drawn."""
    class Flaky(TwoArms):
        def verify(self, problem, text):
            if text.startswith("right"):
                raise TimeoutError
            return super().verify(problem, text)

    trainer = make_trainer(make_lab(0, task=Flaky(), algorithm="grpo"), "grpo")
    first = trainer.lab.first()
    _, metrics, _ = train_step(trainer, begin(trainer, first), 1, first)
    assert 0 < metrics["reward/unscorable"] < 1
    assert np.isfinite(list(metrics.values())).all()


def test_rewards_that_an_algorithm_is_not_defined_on_are_refused():
    class Graded(TwoArms):
        def verify(self, problem, text):
            return dataclasses.replace(super().verify(problem, text), reward=0.5)

    trainer = make_trainer(make_lab(0, task=Graded()), "psr")
    first = trainer.lab.first()
    with pytest.raises(ValueError, match=r"a reward is 0\.5"):
        train_step(trainer, begin(trainer, first), 1, first)


def test_a_prompt_that_does_not_fit_is_refused_and_never_cut():
    """T30."""
    lab = make_lab(0)
    with pytest.raises(ValueError, match="has 3 tokens; 1 to 2 fit"):
        dataclasses.replace(lab.policy, prompt_tokens=2).encode(lab.train)
    assert rollouts.longest_prompt(lab.policy.tokenizer, lab.train) == 3


def test_a_row_that_cannot_hold_an_answer_is_an_error_of_the_settings(tmp_path):
    experiment = smoke(tmp_path)
    with pytest.raises(ConfigError, match=r"rl\.row_length=9: .* give at least that, or 0"):
        build(dataclasses.replace(experiment, rl=dataclasses.replace(experiment.rl, row_length=9)))


@pytest.mark.parametrize(("change", "named"), [
    ({"source": "nowhere.gguf"}, "model.source='nowhere.gguf'"), ({"source": "random"}, "task.kind='arithmetic'")])
def test_a_model_that_cannot_be_had_is_an_error_of_the_settings(tmp_path, change, named):
    experiment = smoke(tmp_path)
    task = dataclasses.replace(experiment.task, kind="arithmetic")
    model = dataclasses.replace(experiment.model, **change)
    with pytest.raises(ConfigError, match=named):
        build(dataclasses.replace(experiment, task=task, model=model))
