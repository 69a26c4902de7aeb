"""The script that times compilation still fits the programs that it compiles."""

import jax
import pytest

from rl_reasoning.models.architecture import DecoderConfig
from tests.scripts.loading import load

CONFIG = DecoderConfig(16, 1, 8, 2, 1, 4, 8)


@pytest.mark.parametrize("program", ["forward", "sampling"])
def test_a_program_can_be_traced(program, monkeypatch):
    script = load("compile_time", monkeypatch)
    function, *arguments = getattr(script, program)(CONFIG)
    jax.eval_shape(function, *arguments)


def test_the_train_step_can_be_lowered(monkeypatch):
    update, *arguments = load("compile_time", monkeypatch).train_step(CONFIG, "none")
    update.lower(*arguments)
