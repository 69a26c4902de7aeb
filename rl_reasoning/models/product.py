"""x W for trained weights, with the weights' gradient x^T g made in the way that a CPU is fastest at.

XLA's fast products for a CPU take operands as they lie. One that sums over the rows of both is none of them, and takes
up to twice as long; so the narrower operand is turned first, which is little. On a CPU barriers keep XLA from writing
turn and product as the one product that they are; elsewhere there are none, and XLA does.
"""

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_apart = Primitive("apart")
_apart.def_impl(lambda x: x)
_apart.def_abstract_eval(lambda x: x)
mlir.register_lowering(_apart, lambda _, x: [x])
mlir.register_lowering(_apart, mlir.lower_fun(jax.lax.optimization_barrier, multiple_results=False), platform="cpu")
ad.deflinear2(_apart, lambda upstream, _: [_apart.bind(upstream)])
batching.defvectorized(_apart)


def apart(x: jax.Array) -> jax.Array:
    """x; no CPU program is rewritten across it, and it is nothing elsewhere."""
    return _apart.bind(x)


@jax.custom_vjp
def product(x: jax.Array, weights: jax.Array) -> jax.Array:
    """x [..., in] times weights [in, out] of the same type: [..., out]. Not for forward-mode differentiation."""
    return x @ weights


def _forward(x: jax.Array, weights: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return x @ weights, (x, weights)


def _backward(kept: tuple[jax.Array, jax.Array], upstream: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weights = kept
    return upstream @ weights.T, over_rows(x, upstream)


product.defvjp(_forward, _backward)


def over_rows(one: jax.Array, other: jax.Array) -> jax.Array:
    """one^T other, summed over all rows: [..., in], [..., out] -> [in, out]."""
    one, other = one.reshape(-1, one.shape[-1]), other.reshape(-1, other.shape[-1])
    if one.shape[1] <= other.shape[1]:
        return apart(one.T) @ other
    return apart(apart(other.T) @ one).T
