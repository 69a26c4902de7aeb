"""Mode latent_search from the settings to the table, and settings that cannot be."""

import dataclasses

import pytest

from experiments.configs import latent
from rl_reasoning.config import LATENT_METHODS
from rl_reasoning.edge import ConfigError, read_experiment
from rl_reasoning.loop.latent_search import run_latent_search
from rl_reasoning.reporting.run_folder import RunFolder


def smoke(workdir, **changes):
    config = latent.get_config("smoke")
    config.workdir = str(workdir)
    config.update(changes)
    return read_experiment(config)


def run(experiment):
    assert run_latent_search(experiment) == 0
    return RunFolder(f"{experiment.workdir}/latent-smoke-latent-seed0")


def untrained(workdir, **changes):
    return smoke(workdir, warm_start={"steps": 0}, evaluation={"problems": 4}, **changes)


def test_every_method_has_a_row_and_every_answer_a_line(tmp_path, capsys):
    folder = run(untrained(tmp_path))
    table = capsys.readouterr().out
    assert "Accuracy in percent over 4 problems" in table
    records = folder.lines("latent_search")
    assert tuple(record["method"] for record in records) == LATENT_METHODS
    answers = folder.lines("latent_answers")
    for record in records:
        own = [answer for answer in answers if answer["method"] == record["method"]]
        assert sum(answer["returned"] for answer in own) == 4
        assert sum(answer["tokens"] for answer in own) == pytest.approx(4 * record["tokens"][-1])
        assert f"\n{record['method']} " in table
    assert {answer["reward"] for answer in answers if answer["method"] == "latent"} <= {0.0, -1.0}
    assert folder.config()["config"]["mode"] == "latent_search"


@pytest.mark.parametrize("reward", ["likelihood", "value", "verifier"])
def test_other_rewards(reward, tmp_path):
    methods = ("latent",) if reward != "verifier" else ("best_of",)
    folder = run(untrained(tmp_path, latent={"reward": reward, "methods": methods, "value_problems": 16}))
    found = [answer["reward"] for answer in folder.lines("latent_answers")]
    assert min(found) >= -1
    assert max(found) <= 0
    if reward != "value":  # of an untrained policy, which is never right, every value is 0
        assert (set(found) <= {-1.0, 0.0}) == (reward == "verifier")


@pytest.mark.slow
def test_the_smoke_preset_trains_its_base_and_repeats(tmp_path):
    experiment = smoke(tmp_path, rl={"steps": 0})
    first = run(experiment)
    kept = dataclasses.replace(experiment.evaluation, run=str(first.path))
    for name, evaluation in (("again", experiment.evaluation), ("of-a-run", kept)):
        assert run_latent_search(dataclasses.replace(experiment, name=name, evaluation=evaluation)) == 0
        assert RunFolder(tmp_path / f"{name}-latent-seed0").lines("latent_answers") == first.lines("latent_answers")


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
