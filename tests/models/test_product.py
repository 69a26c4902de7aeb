"""The linear map of trained weights: values and gradients of x @ W, in as many products, wherever it is used."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rl_reasoning.models.product import product
from rl_reasoning.models.remat import scan_layers

SHAPES = [(12, 3), (3, 12), (5, 5)]
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}


def plain(x, weights):
    return x @ weights


def operands(inputs, outputs, dtype="float32", lead=(8,)):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = ((*lead, inputs), (inputs, outputs), (*lead, outputs))
    return tuple(jax.random.normal(key, shape, dtype) for key, shape in zip(keys, shapes, strict=True))


def gradients(function, x, weights, upstream):
    value, pull = jax.vjp(function, x, weights)
    return value, *pull(upstream)


def agree(found, expected, dtype="float32"):
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_allclose(np.asarray(one, np.float32), np.asarray(two, np.float32), rtol=TOLERANCE[dtype],
                                   atol=TOLERANCE[dtype] * 10)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("lead", [(8,), (2, 4)])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradients_are_those_of_the_plain_product(shape, lead, dtype):
    given = operands(*shape, dtype, lead)
    found, expected = (jax.jit(functools.partial(gradients, f))(*given) for f in (product, plain))
    agree(found, expected, dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_under_vmap_over_both_operands(shape):
    many = jax.tree.map(lambda x: jnp.stack([x, 2 * x, -x]), operands(*shape))
    found, expected = (jax.jit(jax.vmap(functools.partial(gradients, f)))(*many) for f in (product, plain))
    agree(found, expected)


def test_second_derivatives_are_those_of_the_plain_product():
    x, weights, _ = operands(12, 3)

    def length(f, weights):
        return jnp.square(jax.grad(lambda w: jnp.sin(f(x, w)).sum())(weights)).sum()

    agree(*(jax.jit(jax.grad(functools.partial(length, f)))(weights) for f in (product, plain)))


def layers(f, remat, stack, x):
    """The sum of what some narrowing and widening layers make of x, scanned as a decoder's layers are."""
    def layer(x, weights):
        down, up = weights
        return x + f(jnp.tanh(f(x, up)), down), None

    return jnp.square(scan_layers(layer, x, stack, remat)[0]).sum()


@pytest.mark.parametrize("remat", ["none", "dots", "block", "full"])
def test_scanned_layers_compute_as_many_products_and_hold_as_much(remat):
    keys = jax.random.split(jax.random.key(0), 3)
    stack = jax.random.normal(keys[0], (4, 24, 8)) / 5, jax.random.normal(keys[1], (4, 8, 24)) / 5
    x = jax.random.normal(keys[2], (64, 8))
    compiled = [jax.jit(jax.grad(functools.partial(layers, f, remat))).lower(stack, x).compile()
                for f in (product, plain)]
    agree(*(program(stack, x) for program in compiled))
    products, held = zip(*((len(re.findall(r" dot\(", program.as_text())),
                            program.memory_analysis().temp_size_in_bytes) for program in compiled), strict=True)
    assert products[0] == products[1] > 4
    assert held[0] <= held[1] + (2 * 24 * 8 + 2 * 64 * 8) * 4  # at most the turned gradients and operands more


@pytest.mark.parametrize("where", [(("rows", None), (None, None)), (("rows", None), ("rows", None)),
                                   ((None, "rows"), ("rows", None)), (("rows", None), (None, "rows"))])
def test_on_eight_devices(where):
    given = operands(64, 16, lead=(16,))
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    x, weights = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in where)
    places = x, weights, NamedSharding(mesh, PartitionSpec("rows", None))
    found = jax.jit(functools.partial(gradients, product), in_shardings=places, out_shardings=(
        places[2], x, weights))(*given)
    agree(found, gradients(plain, *given))


def test_a_tpu_is_given_the_products_of_the_plain_one_and_no_barriers():
    given = operands(12, 3)

    def operations(f):
        lowered = jax.jit(functools.partial(gradients, f)).trace(*given).lower(lowering_platforms=("tpu",))
        found = re.findall(r"stablehlo\.(\w+)", lowered.as_text())
        return sorted(name for name in found if name != "transpose")  # XLA makes turns a part of products

    assert operations(product) == operations(plain) == ["dot_general"] * 3
    assert "barrier" in jax.jit(functools.partial(gradients, product)).lower(*given).as_text()
