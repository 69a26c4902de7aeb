"""Number types: logits are float32 whatever the layers use, and what is stored is what was asked for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning import optim
from rl_reasoning.config import Optimizer
from rl_reasoning.models.architecture import Precision
from rl_reasoning.models.decoder import initialize, logits
from tests.models.passes import decoded, forward

TOKENS = [[3, 7, 7, 1, 22, 0, 9]]


@pytest.mark.parametrize("precision", [Precision("bfloat16", "bfloat16", "float32"),
                                       Precision("float32", "bfloat16", "bfloat16")])
def test_bf16_layers_are_near_float32_and_sampler_and_trainer_near_each_other(config, parameters, precision):
    typed = dataclasses.replace(config, precision=precision)
    cast = jax.tree.map(lambda leaf: leaf.astype(precision.parameters), parameters)
    full = forward(typed, cast, TOKENS)
    assert full.dtype == np.float32
    exact = forward(config, parameters, TOKENS)
    assert 0 < np.abs(full - exact).max() < 0.1
    apart = np.abs(decoded(typed, cast, TOKENS) - full)
    assert apart.mean() < 1e-2
    assert apart.max() < 5e-2


def test_the_head_has_a_type_of_its_own(config, parameters):
    """float32 logits of bf16 hidden states are those of the float32 product, not rounded on the way."""
    hidden = jax.random.normal(jax.random.key(1), (4, config.width)).astype(jnp.bfloat16)
    exact = hidden.astype(jnp.float32) @ parameters["embed"]["embedding"].T
    np.testing.assert_allclose(logits(config, parameters, hidden), exact, atol=1e-6)
    rounded = logits(dataclasses.replace(config, precision=Precision(head="bfloat16")), parameters, hidden)
    assert rounded.dtype == jnp.float32
    assert 1e-5 < np.abs(rounded - exact).max() < 0.05


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
def test_weights_are_held_as_asked(config, kind):
    typed = dataclasses.replace(config, precision=Precision(kind), qk_norm=True, qkv_bias=True, tied=False)
    shapes = jax.eval_shape(lambda: initialize(typed, jax.random.key(0)))
    kinds = {path[-1].key: leaf.dtype for path, leaf in jax.tree_util.tree_leaves_with_path(shapes["layers"])}
    assert kinds["kernel"] == jnp.dtype(kind)
    assert kinds["bias"] == jnp.dtype(typed.precision.others)
    assert shapes["head"]["kernel"].dtype == shapes["embed"]["embedding"].dtype == jnp.dtype(typed.precision.others)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_moments_have_the_optimizers_type_and_weights_keep_theirs(dtype):
    optimizer = optim.make(Optimizer(dtype=dtype, learning_rate=0.1, warmup=0), 10)
    parameters = {"w": jnp.ones(4, jnp.bfloat16)}
    state = optimizer.init(parameters)
    moments = [leaf for leaf in jax.tree.leaves(state) if leaf.shape == (4,)]
    assert [leaf.dtype for leaf in moments] == [jnp.dtype(dtype)] * 2
    updates, _ = optimizer.update({"w": jnp.full(4, 2, jnp.bfloat16)}, state, parameters)
    np.testing.assert_allclose(updates["w"].astype(np.float32), -0.1, rtol=1e-2)
