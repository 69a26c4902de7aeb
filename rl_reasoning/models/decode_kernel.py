"""Attention of one new token a row against its cache, as a kernel for TPUs that reads only what is seen of the cache.

In plain products every token reads the whole cache, filled or not. Here a cache is cut into blocks of slots, those with
a slot that is seen are listed for each row, and the kernel reads and adds up these alone, with a running maximum (as in
FlashAttention, arXiv 2205.14135). jax's own kernel for this, paged attention, has keys and values in pages of another
layout and wants what is seen at the beginning of a row: our caches have keys as [h, S], and a ring that begins
anywhere.

Shape letters as in `models.decoder`; G = H / K query heads share a key head.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from rl_reasoning.models.splash import LANES, listed
from rl_reasoning.parallel import attention_by_device
from rl_reasoning.parallel.rules import BATCH

BYTES = 2**20  # of keys and values that are read at a time: a microsecond; a step's own cost is a third of one
_NEVER = -1e30  # finite, so that nothing minus nothing is no NaN


def decode_attention(queries: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array, *,
                     interpret: bool = False) -> tuple[jax.Array, jax.Array]:
    """The values that each row's one token sees, weighted by softmax(q k / sqrt(h)) in float32.

    Args:
      queries: [B, 1, K, G, h]. keys: [B, K, 1, h, S]. values: [B, K, S, h].
      mask: [B, 1, S] bool, True where a slot is seen; a row that sees nothing gets 0.
      interpret: whether the kernel is interpreted, which any machine can do, slowly.

    Returns:
      [B, 1, K, G, h] and the logarithms of the weights' sums [B, 1, K, G], in float32.
    """
    found = attention_by_device(functools.partial(_attend, interpret=interpret), queries, keys, values, mask,
                                rows=BATCH)
    return found[..., :-1], found[..., -1]


def slots_at_a_time(keys: jax.Array) -> int:
    """Slots of a block: for about `BYTES` of a row's keys [B, K, 1, h, S] and values, and no more than there are."""
    _, heads, _, width, slots = keys.shape
    room = max(1, BYTES // (2 * heads * width * keys.dtype.itemsize * LANES))
    return min(LANES * 2**int(math.log2(room)), -(-slots // LANES) * LANES)


def _attend(queries: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array, *, interpret: bool) -> jax.Array:
    """On one device; the logarithms are one more number behind what is mixed."""
    rows, heads, _, width, slots = keys.shape
    group, size = queries.shape[3], slots_at_a_time(keys)
    steps = -(-slots // size)
    mask = jnp.pad(mask, ((0, 0), (0, 0), (0, steps * size - slots)))
    places, real = listed(mask.reshape(rows, steps, size).any(axis=-1), steps)
    if not interpret:  # where it has room, the compiler would bring a whole cache into the chip's own memory first
        keys, values = (pltpu.with_memory_space_constraint(x, pltpu.HBM) for x in (keys, values))
    one_row = pl.BlockSpec((1, heads, group, width), lambda row, step, *_: (row, 0, 0, 0))
    one_mass = pl.BlockSpec((1, heads, group, 1), lambda row, step, *_: (row, 0, 0, 0))

    def block(shape: tuple[int, ...], axis: int) -> pl.BlockSpec:
        """The listed block of slots, which lie on this axis."""
        return pl.BlockSpec((1, *shape), lambda row, step, at, _: (row, *(
            at[row * steps + step] if each == axis else 0 for each in range(1, len(shape) + 1))))

    mixed, mass = pl.pallas_call(
        functools.partial(_kernel, slots=slots, steps=steps),
        out_shape=[jax.ShapeDtypeStruct((rows, heads, group, size), jnp.float32) for size in (width, 1)],
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2, grid=(rows, steps), out_specs=[one_row, one_mass],
            in_specs=[one_row, block((heads, 1, width, size), 4), block((heads, size, width), 2), block((1, size), 2)],
            scratch_shapes=[pltpu.VMEM((heads, group, 1), jnp.float32), pltpu.VMEM((heads, group, 1), jnp.float32),
                            pltpu.VMEM((heads, group, width), jnp.float32)]),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        interpret=interpret, name="decode_attention",
    )(places.reshape(-1), real.sum(axis=-1), queries[:, 0], keys, values, mask.astype(jnp.int32))
    return jnp.concatenate([mixed, mass], axis=-1)[:, None]


def _kernel(places: Any, counts: Any, queries: Any, keys: Any, values: Any, seen: Any, mixed: Any, sums: Any, top: Any,
            mass: Any, total: Any, *, slots: int, steps: int) -> None:
    """One block of one row: what its weights sum to, and what they mix, relative to the largest score so far."""
    row, step = pl.program_id(0), pl.program_id(1)
    heads, width, size = (keys.shape[axis] for axis in (1, 3, 4))

    @pl.when(step == 0)
    def _() -> None:
        top[...] = jnp.full(top.shape, _NEVER, jnp.float32)
        mass[...], total[...] = jnp.zeros(mass.shape, jnp.float32), jnp.zeros(total.shape, jnp.float32)

    @pl.when(step < counts[row])
    def _() -> None:
        place = places[row * steps + step] * size + jax.lax.broadcasted_iota(jnp.int32, (size, width), 0)
        for head in range(heads):
            scores = jnp.dot(queries[0, head], keys[0, head, 0], preferred_element_type=jnp.float32) * width ** -0.5
            scores = jnp.where(seen[0] > 0, scores, _NEVER)
            largest = jnp.maximum(top[head], scores.max(axis=-1, keepdims=True))
            weights, shrink = jnp.exp(scores - largest), jnp.exp(top[head] - largest)
            # What is read beyond the last slot may be anything, and 0 times NaN is NaN.
            value = values[0, head] if slots % size == 0 else jnp.where(place < slots, values[0, head], 0)
            found = jnp.dot(weights.astype(value.dtype), value, preferred_element_type=jnp.float32)
            top[head], mass[head] = largest, mass[head] * shrink + weights.sum(axis=-1, keepdims=True)
            total[head] = total[head] * shrink + found

    @pl.when(step == steps - 1)
    def _() -> None:
        some = mass[...] > 0
        mixed[0] = total[...] / jnp.where(some, mass[...], 1)
        sums[0] = jnp.where(some, top[...] + jnp.log(jnp.where(some, mass[...], 1)), _NEVER)
