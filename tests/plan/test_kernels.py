"""The update with kernels for TPUs, compiled ahead of time for a slice; none runs it here."""

import dataclasses

import jax
import pytest

from rl_reasoning import edge
from rl_reasoning.algorithms import ALGORITHMS
from rl_reasoning.config import RL, Experiment, Mesh
from rl_reasoning.loop.setup import typed
from rl_reasoning.models.architecture import DecoderConfig, Precision
from rl_reasoning.parallel import make_layout
from rl_reasoning.plan import slices
from rl_reasoning.plan.programs import Sizes, decode_program, update_program

HALF = Precision("bfloat16", "bfloat16", "bfloat16")
CONFIG = DecoderConfig(512, 2, 512, 8, 2, 64, 512, precision=HALF, attention="splash")  # a little of Qwen2.5-0.5B


@pytest.mark.parametrize("model", ["", "qwen2.5-7b"])
def test_a_plan_has_the_kernels_that_the_settings_name(model):
    """Of a policy of the config's own, for which something is read and made here, and of a published one."""
    experiment = Experiment()
    chosen = dataclasses.replace(experiment.model, attention="splash", decode_attention="kernel")
    config = slices.sizes(dataclasses.replace(experiment, model=chosen), model, 0).config
    assert (config.attention, config.decode_attention) == ("splash", "kernel")


def test_auto_is_a_kernel_on_a_tpu_where_it_can():
    experiment = edge.read_experiment({"model": {"attention": "auto", "decode_attention": "auto"}})
    cut = dataclasses.replace(experiment, mesh=dataclasses.replace(experiment.mesh, context=2))
    windows = dataclasses.replace(CONFIG, attention="xla", windows=(8,) * CONFIG.layers)

    def chosen(experiment, config, platform):
        found = typed(experiment, config, platform)
        return found.attention, found.decode_attention

    assert chosen(experiment, CONFIG, "tpu") == ("splash", "kernel")
    assert chosen(experiment, CONFIG, "") == chosen(experiment, CONFIG, "gpu") == ("xla", "xla")
    assert chosen(cut, CONFIG, "tpu") == chosen(experiment, windows, "tpu") == ("xla", "kernel")


def test_operations_within_kernels_are_counted():
    """4 rows of 1,024 tokens, 2 layers, 8 heads of 64: half of all pairs, 9 products; and 16 caches of 768 slots."""
    layout = make_layout(Mesh(fsdp=4, tensor=2), CONFIG.sizes, jax.devices())
    rl = RL(prompts=4, samples=4, minibatches=1, max_tokens=256, row_length=1024)
    sizes = Sizes(dataclasses.replace(CONFIG, decode_attention="kernel"), rl, ALGORITHMS["grpo"], 512)
    rows = update_program(sizes, layout).shapes[1].tokens.shape[1]
    assert update_program(sizes, layout).kernels * 8 == 9 * 2 * rows * 2 * 8 * 64 * 1024**2 / 2
    assert decode_program(sizes, layout).kernels * 8 == 2 * 2 * 2 * 16 * 8 * 64 * 768
    plain = dataclasses.replace(sizes, config=dataclasses.replace(CONFIG, attention="xla"))
    assert update_program(plain, layout).kernels == decode_program(plain, layout).kernels == 0


@pytest.mark.slow
def test_an_update_with_splash_attention_compiles_for_a_slice():
    """Forward and both parts of the backward pass are one kernel each, on each device for its rows and heads."""
    devices = slices.devices("v5e:2x2")
    layout = make_layout(Mesh(fsdp=2, tensor=2), CONFIG.sizes, devices)
    rl = RL(prompts=4, samples=2, minibatches=1, max_tokens=256)
    program = update_program(Sizes(CONFIG, rl, ALGORITHMS["grpo"], 512), layout)
    text = program.function.lower(*program.shapes).compile().as_text()
    calls = [line for line in text.splitlines() if 'custom_call_target="tpu_custom_call"' in line]
    assert len(calls) == 3, "what is kept of the forward pass is enough for the backward pass"
    assert all("bf16[4,1024,64]" in line and "bf16[1,2048,64]" in line for line in calls), "4 query heads, 1 key head"
    plain = update_program(dataclasses.replace(Sizes(CONFIG, rl, ALGORITHMS["grpo"], 512), config=dataclasses.replace(
        CONFIG, attention="xla")), layout)
    assert "tpu_custom_call" not in plain.function.lower(*plain.shapes).as_text()
