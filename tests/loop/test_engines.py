"""An engine of the user's own, by its name in the settings."""

import dataclasses
import json

import pytest

from experiments.configs import countdown
from rl_reasoning.config import Evaluation, Sampling
from rl_reasoning.edge import ConfigError, read_experiment
from rl_reasoning.loop import evaluate_policy, fingerprints
from rl_reasoning.loop.evaluating import folder_name
from rl_reasoning.loop.setup import build
from rl_reasoning.sampling.scripted import ScriptedEngine


class Halves:
    """Lacks two of an engine's members."""

    def generate(self, parameters, prompts, counts, settings, key, *, numbers=None, first=0):
        raise NotImplementedError


class Shortened(ScriptedEngine):
    """Cannot be asked for later answers."""

    def generate(self, parameters, prompts, counts, settings, key):
        raise NotImplementedError


def make(config, tokenizer, layout):
    """Every answer is the same two numbers, which is no answer to any problem."""
    words = tokenizer.encode("1 + 1")
    return ScriptedEngine(lambda ids, number, sample: [*words, tokenizer.eos_id], tokenizer.eos_id)


def make_halves(config, tokenizer, layout):
    return Halves()


def make_shortened(config, tokenizer, layout):
    return Shortened(lambda *_: [], 0)


def fails(config, tokenizer, layout):
    raise OSError("no server at this address")


def experiment(engine, **changes):
    smoke = read_experiment(countdown.get_config("smoke"))
    return dataclasses.replace(smoke, engine=engine, **changes)


@pytest.fixture(autouse=True)
def modules(monkeypatch, request):
    monkeypatch.syspath_prepend(str(request.path.parent))


@pytest.mark.parametrize(("name", "said"), [
    ("test_engines:nothing", "AttributeError: .*nothing"),
    ("no_such_module:make", "ModuleNotFoundError: .*no_such_module"),
    ("test_engines:fails", "OSError: no server at this address"),
    ("test_engines:make_halves", "a Halves without counts, fingerprint; see rl_reasoning.sampling.engine.Engine"),
    ("test_engines:make_shortened", "cannot be called as generate.*numbers"),
])
def test_what_is_no_engine_is_refused_before_anything_starts(name, said):
    with pytest.raises(ConfigError, match=rf"config\.engine = '{name}': .*{said}"):
        build(experiment(name))


def test_a_name_that_cannot_be_one_is_refused():
    with pytest.raises(ConfigError, match=r"config\.engine = 'my_engine': must be module:function"):
        read_experiment({"engine": "my_engine"})


def test_its_answers_are_evaluated_and_its_name_is_part_of_the_run(tmp_path):
    asked = experiment(
        "test_engines:make", mode="evaluate", workdir=str(tmp_path),
        warm_start=dataclasses.replace(experiment("").warm_start, steps=0, refine_steps=0),
        evaluation=Evaluation(problems=3, samples=2, batch=6, bootstrap=10, traced=0, sampling=Sampling(max_tokens=6)))
    folder = evaluate_policy(asked)
    [found] = folder.evaluations()
    assert {record["text"] for record in folder.samples(found["label"])} == {"1 + 1"}
    assert json.loads((folder.path / "config.json").read_text())["config"]["engine"] == "test_engines:make"
    assert folder_name(asked) != folder_name(dataclasses.replace(asked, engine=""))
    lab = build(asked)
    plain = dataclasses.replace(lab, experiment=dataclasses.replace(asked, engine=""))
    weights = lab.first()
    found = fingerprints.changes(fingerprints.fingerprints(plain, weights), fingerprints.fingerprints(lab, weights))
    assert found == {"engine": ["", "test_engines:make"],
                     "engine_module": ["", fingerprints.module_digest("test_engines:make")]}
