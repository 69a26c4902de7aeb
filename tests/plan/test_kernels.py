"""The update with kernels for TPUs, compiled ahead of time for a slice; none runs it here."""

import dataclasses

import pytest

from rl_reasoning.algorithms import ALGORITHMS
from rl_reasoning.config import RL, Mesh
from rl_reasoning.models.architecture import DecoderConfig, Precision
from rl_reasoning.parallel import make_layout
from rl_reasoning.plan import slices
from rl_reasoning.plan.programs import Sizes, update_program

HALF = Precision("bfloat16", "bfloat16", "bfloat16")
CONFIG = DecoderConfig(512, 2, 512, 8, 2, 64, 512, precision=HALF, attention="splash")  # a little of Qwen2.5-0.5B


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
