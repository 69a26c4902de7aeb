"""The matrix products of a turn of decoding, and nothing else: the limits that a machine sets to it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rl_reasoning.models.cache import Cache, empty_cache, with_room
from rl_reasoning.models.decoder import DecoderConfig, Parameters


def of_a_turn(config: DecoderConfig, parameters: Parameters, rows: int, *, turned: bool) -> Callable[[], Any]:
    """What multiplies so many rows by all weights once, each product with its own weights, in their order.

    Args:
      parameters: from `decoder.unstack_layers` for a CPU.
      turned: with weights [out, in] as left operands, or [in, out] as right ones; the head is [V, D] both times.
    """
    kernels = [linear["kernel_turned"] for layer in parameters["layers"] for part in ("attention", "mlp")
               for linear in layer[part].values()]
    kernels = kernels if turned else [kernel.T for kernel in kernels]
    table = parameters["embed"]["embedding"]

    @jax.jit
    def turn(kernels: list[jax.Array], table: jax.Array, inputs: jax.Array) -> Any:
        if turned:
            return [kernel @ inputs[:kernel.shape[1]] for kernel in kernels], jnp.matmul(
                table, inputs[:config.width], preferred_element_type=jnp.float32)
        return [inputs[:, :kernel.shape[0]] @ kernel for kernel in kernels], jnp.einsum(
            "bd,vd->bv", inputs[:, :config.width], table, preferred_element_type=jnp.float32)

    shape = (rows, max(max(kernel.shape) for kernel in kernels))
    inputs = jnp.ones(shape[::-1] if turned else shape, config.precision.compute)
    return lambda: jax.block_until_ready(turn(kernels, table, inputs))


def of_attention(config: DecoderConfig, rows: int, shared: int, places: tuple[int, int]) -> Callable[[], Any]:
    """Scores of one query a row and head, and means of values, each layer's with its own cache, in the engine's shapes.

    Args:
      shared: how many rows that follow one another read one prompt.
      places: that a row sees of its prompt, and of its own answer.
    """
    prompt, answer = places
    sizes = {rows // shared: prompt, rows: answer} if shared > 1 else {rows: prompt + answer}
    caches = [with_room(config, cache, size) for owners, size in sizes.items()
              for cache in empty_cache(config, owners, 0)]

    def ones(owners: int, blocks: tuple[int, ...], last: int) -> jax.Array:
        return jnp.ones((owners, config.kv_heads, *blocks, rows // owners * config.heads // config.kv_heads, last),
                        config.precision.compute)

    queries = {len(cache.keys): ones(len(cache.keys), cache.keys.shape[2:3], config.head_dim) for cache in caches}
    weights = {len(cache.keys): ones(len(cache.keys), (), cache.places) for cache in caches}

    @jax.jit
    def turn(caches: list[Cache], queries: dict[int, jax.Array], weights: dict[int, jax.Array]) -> Any:
        return [(queries[len(keys)] @ keys, weights[len(keys)] @ values) for keys, values in caches]

    return lambda: jax.block_until_ready(turn(caches, queries, weights))
