"""x W for trained weights, with the weights' gradient made in the order that turns the smaller operand.

A CPU turns the left operand of a product that sums over the rows of both. The gradient is x^T g or, turned, g^T x, and
XLA writes both as the first, whichever is asked for, unless something stands between product and turn. On a CPU that
is a barrier; elsewhere it is nothing, and the program is that of `x @ weights`.
"""

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from rl_reasoning.parallel import parts
from rl_reasoning.parallel.rules import BATCH

_apart = Primitive("apart")
"""Its operand; no CPU program is rewritten across it."""
_apart.def_impl(lambda x: x)
_apart.def_abstract_eval(lambda x: x)
mlir.register_lowering(_apart, lambda _, x: [x])
mlir.register_lowering(_apart, mlir.lower_fun(jax.lax.optimization_barrier, multiple_results=False), platform="cpu")
ad.deflinear2(_apart, lambda upstream, _: [_apart.bind(upstream)])
batching.defvectorized(_apart)


def product(x: jax.Array, weights: jax.Array) -> jax.Array:
    """x [..., in] times weights [in, out] of the same type: [..., out]. Not for forward-mode differentiation."""
    inputs, outputs = weights.shape
    rows = x.size // inputs // parts(BATCH)
    fewer = rows * outputs + inputs * outputs < rows * inputs  # g is turned and then the gradient, or else x
    return _turning_less(x, weights) if fewer else x @ weights


@jax.custom_vjp
def _turning_less(x: jax.Array, weights: jax.Array) -> jax.Array:
    return x @ weights


def _forward(x: jax.Array, weights: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return x @ weights, (x, weights)


def _backward(kept: tuple[jax.Array, jax.Array], upstream: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weights = kept
    to_weights = _apart.bind(jnp.einsum("...o,...i->oi", upstream, x)).T
    return jnp.einsum("...o,io->...i", upstream, weights), to_weights


_turning_less.defvjp(_forward, _backward)
