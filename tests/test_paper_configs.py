"""The papers' settings: every preset is read, its rules hold, its algorithm takes its options; nothing is run."""

import importlib
import pathlib

import pytest

from rl_reasoning import edge, options

FOLDER = pathlib.Path(__file__).parent.parent / "experiments" / "configs" / "papers"
MODULES = {path.stem: importlib.import_module(f"experiments.configs.papers.{path.stem}")
           for path in sorted(FOLDER.glob("*.py"))}
CASES = [(name, preset) for name, module in MODULES.items() for preset in ("", *module.PRESETS)]


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_settings_are_valid_and_the_algorithm_takes_its_options(name, preset):
    experiment = edge.read_experiment(MODULES[name].get_config(preset))
    options.check(experiment.algorithm, options.resolve(experiment.algorithm, experiment.objective), experiment)
    assert experiment.warm_start.updates == 0


@pytest.mark.parametrize(("name", "preset", "prompts", "answers", "sequences_an_update", "rate"), [
    ("rlvr_decomposed", "", 1024, 8, 2048, 1e-6),
    ("rlvr_decomposed", "qwen3_4b_grpo", 1024, 8, 2048, 1e-6),
    ("pacs", "", 1024, 8, 2048, 1e-6),
    ("klear", "", 128, 8, 128, 1e-6),
    ("klear", "code", 128, 8, 256, 5e-7),
])
def test_published_sizes(name, preset, prompts, answers, sequences_an_update, rate):
    rl = edge.read_experiment(MODULES[name].get_config(preset)).rl
    assert (rl.prompts, rl.samples, rl.optimizer.learning_rate) == (prompts, answers, rate)
    assert rl.prompts * rl.samples // rl.minibatches == sequences_an_update
