"""The decode engine on eight devices gives what one gives."""

import dataclasses

import jax
import numpy as np
import pytest

from rl_reasoning.config import Mesh, Sampling
from rl_reasoning.models.decoder import DecoderConfig, initialize
from rl_reasoning.parallel import make_layout
from rl_reasoning.sampling.engine import JaxEngine
from rl_reasoning.sampling.weights import Fresh
from rl_reasoning.types import Prompts

CONFIG = DecoderConfig(vocabulary=20, layers=2, width=16, heads=4, kv_heads=2, head_dim=6, mlp=24, qkv_bias=True)
PARAMETERS = jax.tree.map(lambda leaf: leaf + 0.01, initialize(CONFIG, jax.random.key(0)))
PROMPTS = Prompts(np.array([[3, 1, 2, 9], [7, 4, 0, 0], [5, 0, 0, 0]], np.int32), np.array([4, 2, 1], np.int32))


@pytest.mark.parametrize("slots", [0, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("mesh", [Mesh(data=2, context=2, tensor=2),
                                  pytest.param(Mesh(data=8), marks=pytest.mark.slow)], ids=str)
def test_tokens_are_those_of_one_device(mesh, slots, monkeypatch):
    """T28: rows over data and fsdp, heads over tensor; weights as the trainer splits them arrive by one transfer. The
    last answers move to fewer slots of their devices."""
    monkeypatch.setattr("rl_reasoning.sampling.engine.LEAST", 1)
    monkeypatch.setattr("rl_reasoning.sampling.engine.WORTH", 0)
    layout = make_layout(mesh, {})
    settings = dataclasses.replace(Sampling(max_tokens=6), slots=slots)
    counts, key = [5, 4, 6], jax.random.key(1)
    alone = JaxEngine(CONFIG, 4).generate(PARAMETERS, PROMPTS, counts, settings, key)
    engine, placed = JaxEngine(CONFIG, 4, layout=layout), layout.place(PARAMETERS)
    together = engine.generate(placed, PROMPTS, counts, settings, key)
    np.testing.assert_array_equal(together.ids, alone.ids)
    np.testing.assert_array_equal(together.stop_reasons, alone.stop_reasons)
    np.testing.assert_allclose(together.logprobs, alone.logprobs, atol=1e-5)
    Fresh().check(engine.fingerprint, placed)
    Fresh().check(engine.fingerprint, PARAMETERS)
    assert engine.counts()["engine/weights_bytes_per_second"] > 0
