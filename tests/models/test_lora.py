"""Adapters: what is trained, what stays, and the exact merge; int8 weights below them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.models import lora
from rl_reasoning.models.architecture import LINEAR, LoRA, Precision
from rl_reasoning.models.decoder import initialize
from rl_reasoning.models.quantized import dequantize, quantize
from tests.models.passes import decoded, forward, forward_pass

TOKENS = [[3, 7, 7, 1, 22, 0, 9]]


def adapted(config, parameters="float32", targets=("attention.*", "mlp.down")):
    return dataclasses.replace(config, precision=Precision(parameters), lora=LoRA(3, 6.0, targets))


def moved(config, parameters):
    """The parameters with adapters that do change the output."""
    trained, frozen = lora.split(config, parameters)
    return lora.join(jax.tree.map(lambda leaf: leaf + 0.05, trained), frozen)


def leaf_names(tree):
    return {path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_new_adapters_change_nothing_and_merged_ones_are_exact(config, parameters, kind):
    typed = adapted(config, kind)
    prepared = lora.prepare(typed, parameters, jax.random.key(1))
    assert jax.tree.map(jnp.shape, prepared) == jax.tree.map(
        jnp.shape, jax.eval_shape(lambda: initialize(typed, jax.random.key(0))))
    base = dataclasses.replace(config, precision=Precision())
    before = forward(base, lora.merge(typed, prepared), TOKENS)
    np.testing.assert_allclose(before, forward(base, parameters, TOKENS), atol=1e-5 if kind == "float32" else 0.1)
    prepared = moved(typed, prepared)
    unmerged = forward(typed, prepared, TOKENS)
    assert np.abs(unmerged - before).max() > 0.01
    np.testing.assert_allclose(forward(base, lora.merge(typed, prepared), TOKENS), unmerged, atol=1e-5)
    np.testing.assert_allclose(decoded(typed, prepared, TOKENS), unmerged, atol=1e-5)


def test_only_adapters_of_the_targets_have_a_gradient(config, parameters):
    typed = adapted(config)
    trained, frozen = lora.split(typed, moved(typed, lora.prepare(typed, parameters, jax.random.key(1))))
    assert leaf_names(trained) == {"lora_a", "lora_b"}
    assert leaf_names(frozen) == leaf_names(parameters)
    assert set(trained["layers"]["attention"]) == {"query", "key", "value", "output"}
    assert set(trained["layers"]["mlp"]) == {"down"}
    ids = jnp.asarray(TOKENS)
    gradient = jax.grad(lambda part: jnp.sin(forward_pass(typed, lora.join(part, frozen), ids)).sum())(trained)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))


def test_without_adapters_everything_is_trained(config, parameters):
    trained, frozen = lora.split(config, parameters)
    assert trained is parameters
    assert frozen == {}
    assert lora.join(trained, frozen) == parameters


def test_split_and_join_copy_nothing(config, parameters):
    typed = adapted(config)
    prepared = lora.prepare(typed, parameters, jax.random.key(1))
    joined = lora.join(*lora.split(typed, prepared))
    assert jax.tree.structure(joined) == jax.tree.structure(prepared)
    assert all(a is b for a, b in zip(jax.tree.leaves(joined), jax.tree.leaves(prepared), strict=True))


@pytest.mark.parametrize(("targets", "covered"), [
    (("*",), set(LINEAR)), (("attention.query", "attention.value"), {"attention.query", "attention.value"}),
    (("mlp.*",), {"mlp.gate", "mlp.up", "mlp.down"})])
def test_targets_are_patterns(targets, covered):
    assert set(filter(LoRA(2, 4.0, targets).covers, LINEAR)) == covered


@pytest.mark.parametrize(("targets", "rank", "message"), [
    (("q_proj",), 2, "'q_proj' matches none of attention.query"), ((), 2, "matches none"), (("*",), 0, "rank 0")])
def test_adapters_that_cannot_be(targets, rank, message):
    with pytest.raises(ValueError, match=message):
        LoRA(rank, 4.0, targets)


def test_int8_is_the_nearest_of_255_steps():
    kernel = jax.random.normal(jax.random.key(0), (3, 40, 7)) * jnp.arange(7)  # an output of zeros too
    for given in (kernel, np.asarray(kernel)):
        steps, scale = quantize(given)
        assert steps.dtype == np.int8
        assert np.abs(steps).max() == 127
        error = np.abs(dequantize(jnp.asarray(steps), jnp.asarray(scale)) - kernel)
        assert (error <= np.asarray(scale)[:, None] * 0.5001).all()
        np.testing.assert_array_equal(np.asarray(scale)[:, 0], 1)
