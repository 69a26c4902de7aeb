"""MLPs by blocks of their hidden width: the same states and gradients, in less memory."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.models.architecture import DecoderConfig, LoRA, Precision
from rl_reasoning.models.decoder import hidden_states, initialize
from rl_reasoning.models.parts import check_blocks

CONFIG = DecoderConfig(vocabulary=32, layers=2, width=16, heads=4, kv_heads=2, head_dim=4, mlp=48)
KINDS = {
    "peri": dataclasses.replace(CONFIG, norms="peri"),
    "adapters": dataclasses.replace(CONFIG, lora=LoRA(4, 8.0)),
    "adapters on int8": dataclasses.replace(CONFIG, lora=LoRA(4, 8.0, ("mlp.*",)), precision=Precision("int8")),
}


def parameters_of(config):
    """Random ones; no adapter is zero."""
    rng = np.random.default_rng(0)

    def draw(leaf):
        if leaf.dtype == jnp.int8:
            return rng.integers(-3, 4, leaf.shape, np.int8)
        return rng.normal(0, 0.3, leaf.shape).astype(leaf.dtype)

    return jax.tree.map(draw, jax.eval_shape(lambda: initialize(config, jax.random.key(0))))


def assert_alike(one, other):
    np.testing.assert_allclose(one[0], other[0], rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(one[1], other[1], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())


def states_and_gradient(config, blocks, remat="none"):
    parameters, rows = parameters_of(config), jnp.broadcast_to(jnp.arange(12), (2, 12))
    tokens = jax.random.randint(jax.random.key(2), rows.shape, 0, config.vocabulary)
    mask = jnp.broadcast_to(jnp.tril(jnp.ones((12, 12), bool)), (2, 12, 12))
    config = dataclasses.replace(config, mlp_blocks=blocks)

    def loss(parameters):
        found = hidden_states(config, parameters, tokens, rows, mask, remat=remat)
        return (found ** 3).sum(), found

    gradient, found = jax.jit(jax.grad(loss, has_aux=True, allow_int=True))(parameters)
    return found, [leaf for leaf in jax.tree.leaves(gradient) if leaf.dtype == jnp.float32]


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_change_neither_states_nor_gradients(kind):
    assert_alike(states_and_gradient(KINDS[kind], 3), states_and_gradient(KINDS[kind], 1))


@pytest.mark.parametrize(("blocks", "remat"), [
    (3, "block"), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((2, "none"), (4, "dots"), (4, "full")))])
def test_they_do_not_whatever_else_is_computed_again(blocks, remat):
    assert_alike(states_and_gradient(CONFIG, blocks, remat), states_and_gradient(CONFIG, 1))


def temporaries(blocks):
    """Bytes of a gradient with few heads and a wide MLP."""
    config = DecoderConfig(vocabulary=32, layers=2, width=64, heads=2, kv_heads=1, head_dim=8, mlp=4_096,
                           mlp_blocks=blocks)
    parameters = jax.eval_shape(lambda: initialize(config, jax.random.key(0)))
    rows, mask = jax.ShapeDtypeStruct((4, 256), jnp.int32), jax.ShapeDtypeStruct((4, 256, 256), bool)

    def loss(parameters, tokens, positions, mask):
        return hidden_states(config, parameters, tokens, positions, mask, remat="block").sum()

    return jax.jit(jax.grad(loss)).lower(parameters, rows, rows, mask).compile().memory_analysis().temp_size_in_bytes


def test_only_one_blocks_activations_exist():
    """Four float32 arrays [1024, 4096] of the whole are 64 MiB."""
    whole, quarters = temporaries(1), temporaries(4)
    assert whole - quarters > 30 * 2**20


def test_a_width_that_has_no_such_blocks_is_named_with_what_is_allowed():
    check_blocks(48, 3, 4)
    with pytest.raises(ValueError, match=r"rl.mlp_blocks=5 does not divide the 24 of an MLP's hidden width of 48.*"
                                         r"allowed: 1, 2, 3, 4, 6, 8, 12, 24"):
        check_blocks(48, 5, 2)
