"""The weights that an engine holds, and the fingerprint that tells when they are not the trainer's."""

import dataclasses

import jax
import numpy as np
import pytest

from rl_reasoning.models.architecture import LoRA
from rl_reasoning.models.decoder import DecoderConfig, initialize, unstack_layers
from rl_reasoning.models.lora import prepare
from rl_reasoning.sampling import weights as weights_module
from rl_reasoning.sampling.weights import Fresh, StaleWeights, Weights, fingerprint

CONFIG = DecoderConfig(vocabulary=19, layers=2, width=16, heads=4, kv_heads=2, head_dim=6, mlp=24)
PARAMETERS = initialize(CONFIG, jax.random.key(0))


def test_fingerprint_is_that_of_the_trainers_layout():
    assert fingerprint(unstack_layers(CONFIG, PARAMETERS)) == fingerprint(PARAMETERS)


def test_fingerprint_sees_every_leaf_one_bit_and_an_exchange():
    """T32: one unit in the last place of any leaf, two layers exchanged, two numbers exchanged."""
    before, leaves = fingerprint(PARAMETERS), jax.tree.leaves(PARAMETERS)
    seen = {before}
    for number, leaf in enumerate(leaves):
        at = tuple(0 for _ in leaf.shape)
        changed = [*leaves[:number], leaf.at[at].set(np.nextafter(leaf[at], np.float32(9))), *leaves[number + 1:]]
        seen.add(fingerprint(jax.tree.unflatten(jax.tree.structure(PARAMETERS), changed)))
    turned = PARAMETERS | {"layers": jax.tree.map(lambda leaf: leaf[::-1], PARAMETERS["layers"])}
    swapped = PARAMETERS | {"embed": {"embedding": PARAMETERS["embed"]["embedding"][::-1]}}
    seen |= {fingerprint(turned), fingerprint(swapped)}
    assert len(seen) == len(leaves) + 3


def test_new_parameters_are_taken_over_and_old_ones_are_kept_once():
    """T32: every update reaches the engine; the same parameters are not copied again."""
    weights, fresh = Weights(CONFIG), Fresh()
    assert weights.fingerprint is None
    held = weights.of(PARAMETERS)
    assert weights.of(dict(PARAMETERS)) is held
    for step in range(3):
        updated = jax.tree.map(lambda leaf, step=step: leaf + 1e-6 * (step + 1), PARAMETERS)
        weights.of(updated)
        fresh.check(weights.fingerprint, updated)
    with pytest.raises(StaleWeights, match="did not take over"):
        fresh.check(weights.fingerprint, PARAMETERS)
    fresh.check(None, PARAMETERS)


def test_t32_parameters_are_hashed_once_however_often_they_are_sampled_from(monkeypatch):
    hashed, fresh = [], Fresh()
    monkeypatch.setattr(weights_module, "fingerprint", lambda tree: hashed.append(1) or fingerprint(tree))
    for _ in range(3):
        fresh.check(fingerprint(PARAMETERS), PARAMETERS)
    assert len(hashed) == 1
    copied = jax.tree.map(jax.numpy.array, PARAMETERS)
    fresh.check(fingerprint(PARAMETERS), copied)  # other arrays are asked for their bits
    assert len(hashed) == 2


@pytest.mark.parametrize("for_cpu", [False, True])
def test_a_list_of_layers_is_taken_as_it_is(for_cpu):
    config = dataclasses.replace(CONFIG, for_cpu=for_cpu)
    layered = unstack_layers(config, PARAMETERS)
    taken = Weights(config).of(layered)
    assert all(one is other for one, other in zip(jax.tree.leaves(taken), jax.tree.leaves(layered), strict=True))


def test_a_cpu_has_the_matrices_of_layers_turned():
    config = dataclasses.replace(CONFIG, lora=LoRA(2, 8.0), qkv_bias=True)
    parameters = prepare(config, initialize(config.plain(), jax.random.key(0)), jax.random.key(1))
    weights = Weights(dataclasses.replace(config, for_cpu=True))
    held = weights.of(parameters)
    stack = parameters["layers"]["mlp"]["down"]
    assert set(held["layers"][1]["mlp"]["down"]) == {"kernel_turned", "lora_a", "lora_b"}
    np.testing.assert_array_equal(held["layers"][1]["mlp"]["down"]["kernel_turned"], stack["kernel"][1].T)
    np.testing.assert_array_equal(held["layers"][1]["mlp"]["down"]["lora_a"], stack["lora_a"][1])
    assert weights.fingerprint == fingerprint(parameters) == fingerprint(unstack_layers(CONFIG, parameters))
    moved = jax.tree.map(lambda leaf: leaf, parameters)
    moved["layers"]["mlp"]["down"]["kernel"] = stack["kernel"].at[1, 0, 1].add(1)
    assert weights.fingerprint != fingerprint(moved)
