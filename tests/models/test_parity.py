"""Families, rotary scalings, windows and norm placements against numbers that transformers gave.

`scripts/parity_transformers.py --write` made the numbers: logits of the last of twelve tokens, from weights that both
sides compute (`hf_cases`).
"""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest

from rl_reasoning.models import hf, hf_config
from rl_reasoning.models.decoder import initialize
from tests.models import hf_cases
from tests.models.passes import decoded, forward

GOLDENS = json.loads((pathlib.Path(__file__).parent / "goldens_transformers.json").read_text())


@pytest.mark.parametrize("name", hf_cases.CASES)
def test_logits_of_every_family_are_those_of_transformers(tmp_path, name):
    folder = hf_cases.write(tmp_path, hf_cases.CASES[name], shards=3)
    config = hf_config.read_config(folder)
    ours = forward(config, hf.read_parameters(folder, config), hf_cases.TOKENS)
    np.testing.assert_allclose(ours[0, -1], GOLDENS[name], atol=1e-4)


@pytest.mark.parametrize("placement", ["peri", "post"])
def test_norm_placements_are_those_of_torch_models(placement):
    config = hf_cases.norms_config(placement)
    ours = forward(config, hf_cases.norms_parameters(config), hf_cases.TOKENS)
    np.testing.assert_allclose(ours[0, -1], GOLDENS[f"norms_{placement}"], atol=1e-4)


def test_the_numbers_tell_the_cases_apart():
    """Cases with the weights of "llama" and another feature differ by far more than the tolerance."""
    for name in ("llama_rope_llama3", "llama_rope_linear", "mistral_window", "norms_peri", "norms_post"):
        assert np.abs(np.subtract(GOLDENS[name], GOLDENS["llama"])).max() > 0.02, name
    assert np.abs(np.subtract(GOLDENS["qwen2_rope_yarn"], GOLDENS["qwen2_some_windows"])).max() > 0.02


@pytest.mark.parametrize("changes", [
    {"qkv_bias": True, "windows": (0, 3)}, {"qk_norm": True, "norms": "peri"}, {"norms": "post", "output_bias": True}])
def test_t26_cached_decoding_is_the_full_pass(config, changes):
    config = dataclasses.replace(config, **changes)
    parameters = jax.tree.map(lambda leaf: leaf + 0.1, initialize(config, jax.random.key(0)))
    tokens = [[3, 7, 7, 1, 22, 0, 9], [1, 2, 3, 4, 5, 6, 7]]
    np.testing.assert_allclose(decoded(config, parameters, tokens), forward(config, parameters, tokens), atol=1e-5)
