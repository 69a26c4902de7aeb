"""The planning and reasoning-gym examples at toy size, from the settings to the report; and settings that cannot be."""

import dataclasses
import importlib.util
import pathlib

import pytest

from experiments.configs import gym, path
from rl_reasoning.edge import ConfigError, read_experiment
from rl_reasoning.loop import run_experiment
from rl_reasoning.loop.restore import export_run, restore
from rl_reasoning.loop.setup import build
from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.tasks.planning import worlds
from rl_reasoning.tokenizers.folder import read_tokenizer
from tests.models import gguf_fixture

ROOT = pathlib.Path(__file__).parents[2]


def example(module, preset, workdir, **changes):
    return dataclasses.replace(read_experiment(module.get_config(preset)), workdir=str(workdir), **changes)


@pytest.fixture(name="readings", scope="module")
def readings_script():
    spec = importlib.util.spec_from_file_location("graph_readings_script", ROOT / "scripts" / "graph_readings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_rl(experiment):
    return dataclasses.replace(experiment, rl=dataclasses.replace(experiment.rl, steps=0))


@pytest.mark.slow
def test_path_finding_runs_and_says_how_accuracy_depends_on_the_degree(tmp_path, capsys, readings):
    experiment = without_rl(example(path, "smoke", tmp_path))
    assert run_experiment(experiment) == 0
    assert "Pass@1 by degree in percent" in capsys.readouterr().out
    folder = RunFolder(tmp_path / "path-smoke-w_reinforce-seed0")
    (record,) = folder.evaluations()
    problems = worlds.path(experiment.task.path).held_out_problems(24, 0)
    assert record["facts"]["degree"] == [str(problem.metadata["degree"]) for problem in problems]
    assert {sample["outcome"] for sample in folder.samples("base")} <= {"right", "wrong", "unparsable"}
    assert readings.main([str(folder.path)]) == 0
    first, _, edges, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("30 nodes; current node and target explain")
    assert float(edges.split()[-1]) > 0.7  # sixty steps suffice for most of the edges


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["smoke", "smoke_blocksworld"])
def test_reinforcement_learning_goes_on_from_paths(preset, tmp_path, capsys, readings):
    experiment = example(path, preset, tmp_path)
    assert run_experiment(experiment) == 0
    folder = RunFolder(tmp_path / f"{experiment.name}-w_reinforce-seed0")
    assert [line["step"] for line in folder.metrics("rl")] == [1, 2]
    assert [record["label"] for record in folder.evaluations()] == ["base", "step_0002"]
    capsys.readouterr()
    for step in ("0", "2"):
        assert readings.main([str(folder.path), f"--step={step}"]) == 0
    assert capsys.readouterr().out.count("current node and target explain") == 2


def test_blocksworld_builds_with_a_policy_that_knows_its_states(tmp_path):
    lab = build(example(path, "smoke_blocksworld", tmp_path))
    assert len(lab.task.nodes) == 13
    assert lab.policy.config.vocabulary == 14
    assert lab.policy.prompt_tokens == 2
    assert not {problem.id for problem in lab.train} & {problem.id for problem in lab.held_out}


@pytest.fixture(name="tiny", scope="module")
def tiny_model(tmp_path_factory):
    entries = gguf_fixture.metadata() | {"llama.context_length": 1024}
    return str(gguf_fixture.write(tmp_path_factory.mktemp("gym") / "tiny.gguf", entries))


@pytest.mark.slow
def test_the_gym_example_runs_with_its_scorer_in_processes(tmp_path, tiny):
    experiment = example(gym, "smoke", tmp_path)
    model = dataclasses.replace(experiment.model, source=tiny)
    assert run_experiment(dataclasses.replace(experiment, model=model)) == 0
    folder = RunFolder(tmp_path / "gym-smoke-grpo-seed0")
    assert [line["reward/unscorable"] for line in folder.metrics("rl")] == [0.0]
    assert {sample["outcome"] for sample in folder.samples("base")} == {"unparsable"}


def from_nothing(tmp_path):
    experiment = example(gym, "scratch", tmp_path)
    return dataclasses.replace(
        experiment, model=dataclasses.replace(experiment.model, layers=1, width=16, heads=1, head_dim=16, mlp=16),
        warm_start=dataclasses.replace(experiment.warm_start, steps=60, refine_steps=0, batch=32),
        rl=dataclasses.replace(experiment.rl, steps=1, prompts=2, samples=4),
        evaluation=dataclasses.replace(experiment.evaluation, problems=4, samples=4, bootstrap=20))


def test_a_tiny_policy_has_a_generator_s_words_and_digits_for_tokens(tmp_path):
    lab = build(from_nothing(tmp_path))
    lab.verifier.close()
    assert lab.policy.config.vocabulary == lab.policy.tokenizer.vocabulary_size < 50
    encoded = lab.policy.encode(lab.held_out)
    texts = [lab.policy.decode(*row) for row in zip(encoded.ids, encoded.lengths, strict=True)]
    assert texts == [problem.answer["question"] for problem in lab.held_out]
    assert not {problem.id for problem in lab.train} & {problem.id for problem in lab.held_out}


@pytest.mark.slow
def test_a_tiny_policy_learns_a_generator_s_answers_from_nothing_and_is_exported(tmp_path):
    """After a few traces most answers have the form that is asked for; a folder of it knows the same words."""
    experiment = from_nothing(tmp_path)
    assert run_experiment(experiment) == 0
    folder = RunFolder(tmp_path / "gym-scratch-grpo-seed0")
    outcomes = [sample["outcome"] for sample in folder.samples("base")]
    assert outcomes.count("unparsable") < 12, outcomes
    restored, _ = restore(folder.path)
    export_run(folder.path, tmp_path / "hf")
    for problem in restored.held_out:
        question = problem.answer["question"]
        assert read_tokenizer(tmp_path / "hf").encode(question) == restored.policy.tokenizer.encode(question)


def test_verdicts_of_gym_scorers_come_back_from_their_processes(tmp_path, tiny):
    experiment = example(gym, "smoke", tmp_path)
    lab = build(dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, source=tiny)))
    try:
        texts = [[f"<answer>{problem.answer['answer']}</answer>", "<answer>x</answer>", ""] for problem in lab.train]
        found = lab.verifier.verify_all((problem, text) for problem, row in zip(lab.train, texts, strict=True)
                                        for text in row)
    finally:
        lab.verifier.close()
    assert [verdict.outcome for verdict in found] == ["right", "wrong", "unparsable"] * len(lab.train)


@pytest.mark.parametrize(("module", "changes", "named"), [
    (path, {"evaluation": {"by": "level"}}, r"evaluation\.by = 'level': .* there are degree, distance"),
    (gym, {"warm_start": {"steps": 5}}, r"warm_start\.steps=5 .* must be 0: task\.kind='gym' has no traces"),
    (gym, {"task": {"gym": {"name": "chain_sums"}}}, r"task\.gym\.name='chain_sums'.*chain_sum"),
    (gym, {"model": {"source": "random"}, "task": {"kind": "arithmetic"}}, r"no words for task\.kind='arithmetic'"),
    (path, {"evaluation": {"problems": 5000}}, r"held-out problems and 5000 were asked for"),
])
def test_t61_settings_that_cannot_be(module, changes, named, tiny):
    config = module.get_config("smoke")
    if module is gym:
        config.model.source = tiny
    config.update(changes)
    with pytest.raises(ConfigError, match=named):
        build(read_experiment(config))


def test_t61_options_of_a_generator_are_plain_names_below_its_group():
    read = read_experiment({"task": {"gym": {"options": {"min_terms": 3}}}})
    assert read.task.gym.options == {"min_terms": 3}
    with pytest.raises(ConfigError, match=r"task\.gym\.options = 3: must be options by name"):
        read_experiment({"task": {"gym": {"options": 3}}})


def test_readings_of_what_is_no_run_or_has_no_graph_are_refused(tmp_path, capsys, readings, tiny):
    with pytest.raises(SystemExit) as ended:
        readings.main([str(tmp_path)])
    assert ended.value.code == 2
    experiment = example(gym, "smoke", tmp_path)
    folder = RunFolder(tmp_path / "run")
    folder.write_config(dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, source=tiny)), [])
    with pytest.raises(SystemExit):
        readings.main([str(folder.path), "--step=0"])
    assert "task.kind=gym, which has no graph" in capsys.readouterr().err


def test_a_base_that_is_gone_is_not_trained_again(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.write_config(example(path, "smoke", tmp_path), [])
    with pytest.raises(FileNotFoundError, match="the base that this run needs is not in"):
        restore(folder.path, 0)
