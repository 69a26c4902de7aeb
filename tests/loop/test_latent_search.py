"""Mode latent_search from the settings to the table, and settings that cannot be."""

import dataclasses

import pytest

from experiments.configs import latent
from rl_reasoning.config import LATENT_METHODS
from rl_reasoning.edge import ConfigError, read_experiment
from rl_reasoning.loop import run_experiment
from rl_reasoning.reporting.run_folder import RunFolder
from tests.models import gguf_fixture


def smoke(workdir, **changes):
    config = latent.get_config("smoke")
    config.workdir = str(workdir)
    config.update(changes)
    return read_experiment(config)


def run(experiment):
    assert run_experiment(experiment) == 0
    return RunFolder(f"{experiment.workdir}/latent-smoke-latent-seed0")


def untrained(workdir, **changes):
    return smoke(workdir, warm_start={"steps": 0}, evaluation={"problems": 4}, **changes)


@pytest.mark.slow
def test_every_method_has_a_row_and_every_answer_a_line(tmp_path, capsys):
    folder = run(untrained(tmp_path))
    table = capsys.readouterr().out
    assert "Accuracy in percent over 4 problems" in table
    records = folder.lines("latent_search")
    assert tuple(record["method"] for record in records) == LATENT_METHODS
    for record in records:
        own = folder.lines(f"latent_{record['method']}")
        assert {answer["method"] for answer in own} == {record["method"]}
        assert sum(answer["returned"] for answer in own) == 4
        assert sum(answer["tokens"] for answer in own) == pytest.approx(4 * record["tokens"][-1])
        assert f"\n{record['method']} " in table
    assert {answer["reward"] for answer in folder.lines("latent_latent")} <= {0.0, -1.0}
    assert folder.config()["config"]["mode"] == "latent_search"


@pytest.mark.parametrize("reward", [
    pytest.param("likelihood", marks=pytest.mark.slow), pytest.param("value", marks=pytest.mark.slow), "verifier"])
def test_other_rewards(reward, tmp_path):
    methods = ("latent",) if reward != "verifier" else ("best_of",)
    folder = run(untrained(tmp_path, latent={"reward": reward, "methods": methods, "value_problems": 16}))
    found = [answer["reward"] for answer in folder.lines(f"latent_{methods[0]}")]
    assert min(found) >= -1
    assert max(found) <= 0
    if reward != "value":  # of an untrained policy, which is never right, every value is 0
        assert (set(found) <= {-1.0, 0.0}) == (reward == "verifier")


@pytest.mark.slow
def test_the_smoke_preset_trains_its_base_and_repeats(tmp_path):
    experiment = smoke(tmp_path, rl={"steps": 0})
    first = run(experiment)
    assert len(first.lines("latent_latent")) >= 8
    kept = dataclasses.replace(experiment.evaluation, run=str(first.path))
    for name, evaluation in (("again", experiment.evaluation), ("of-a-run", kept)):
        assert run_experiment(dataclasses.replace(experiment, name=name, evaluation=evaluation)) == 0
        assert RunFolder(tmp_path / f"{name}-latent-seed0").lines("latent_latent") == first.lines("latent_latent")


@pytest.mark.slow
def test_a_language_model_judges_its_own_answers(tmp_path, capsys):
    """Random weights give no verdict, so every reward is -1 and every check is counted as silent."""
    source = gguf_fixture.write(tmp_path / "tiny.gguf", gguf_fixture.metadata() | {"llama.context_length": 4096})
    config = latent.get_config("smollm2_self")
    config.update({"workdir": str(tmp_path), "model": {"source": str(source)}, "evaluation": {"problems": 2},
                   "latent": {"checks": {"max_tokens": 4}, "methods": ("greedy", "latent", "majority")}})
    assert run_experiment(read_experiment(config)) == 0
    assert "16 checks, 16 without a verdict" in capsys.readouterr().err
    folder = RunFolder(tmp_path / "latent-smollm2-self-latent-seed0")
    answers = folder.lines("latent_latent")
    assert {answer["reward"] for answer in answers} == {-1.0}
    assert all(4 * 1 < answer["tokens"] <= 24 + 4 * 4 for answer in answers)
    # A vote judges nothing, so it has more answers for the same tokens.
    assert len(folder.lines("latent_majority")) > len(answers)
    small = gguf_fixture.write(tmp_path / "small.gguf")
    config.model.source = str(small)
    config.latent.checks.max_tokens = 1024
    with pytest.raises(ConfigError, match=r"a check of an answer has up to .* the model was made for 1024"):
        run_experiment(read_experiment(config))


@pytest.mark.parametrize(("changes", "message"), [
    ({"latent": {"methods": ("latent", "luck")}}, r"latent\.methods = .*some of greedy, latent, noise"),
    ({"latent": {"methods": ()}}, r"latent\.methods = \(\): must be some of"),
    ({"latent": {"methods": ("noise", "noise")}}, r"each at most once"),
    ({"latent": {"fraction": 0.1}}, r"latent\.fraction = 0\.1: must be at least 0\.167, one token of"),
    ({"latent": {"reward": "self"}}, r"latent\.reward = 'self': asks the policy in words, and one from random weights"),
    ({"evaluation": {"sampling": {"stop": ("x",)}}}, r"evaluation\.sampling\.stop = .* is not known to the methods"),
    ({"evaluation": {"sampling": {"temperature": 0.0}}}, r"must be above 0, .* best_of, greedy_best_of, majority"),
])
def test_t61_settings_that_do_not_fit(changes, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        smoke(tmp_path, **changes)
