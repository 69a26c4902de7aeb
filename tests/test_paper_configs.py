"""The papers' settings: presets are read, their rules hold, algorithms take their options, programs are shaped."""

import importlib
import pathlib

import jax
import pytest

from rl_reasoning import edge, options
from rl_reasoning.parallel import make_layout
from rl_reasoning.plan import programs, slices

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


@pytest.mark.parametrize(("name", "preset", "billions"), [
    ("gvm", "", 1.54), ("klear", "", 8.19), ("klear", "code", 8.19), ("pacs", "", 7.62), ("rlvr_decomposed", "", 7.62),
    ("rlvr_decomposed", "qwen3_4b", 4.02),
])
def test_decode_and_update_are_planned_up_to_their_shapes(name, preset, billions):
    """With the sizes of the config's own model; the longest answer fits in a row, a slot and the model's context."""
    experiment = edge.read_experiment(MODULES[name].get_config(preset))
    sizes = slices.sizes(experiment, "", 0)
    layout = make_layout(experiment.mesh, sizes.config.sizes, jax.devices(), even_alone=True)
    update, decode = programs.update_program(sizes, layout), programs.decode_program(sizes, layout, experiment.rl.slots)
    state, _ = update.shapes
    weights = sum(leaf.size for leaf in jax.tree.leaves(state.parameters["policy"]))
    assert weights / 1e9 == pytest.approx(billions, rel=0.005)
    assert sizes.prompt_tokens + experiment.rl.max_tokens <= sizes.row_length <= sizes.config.context
    assert sizes.rows(layout.shards.rows) >= 1
    after, metrics = jax.eval_shape(update.function, *update.shapes)
    assert jax.tree.map(lambda leaf: leaf.shape, after) == jax.tree.map(lambda leaf: leaf.shape, state)
    assert metrics.gradient_norm.shape == ()
    assert {leaf.shape for leaf in jax.tree.leaves(metrics)} == {()}
    slots = jax.eval_shape(decode.function, *decode.shapes)
    assert slots.ids.shape == (decode.tokens, experiment.rl.max_tokens)
