"""Attention over packed rows by splash attention, jax's own kernel for TPUs, whose memory is linear in a row's length.

The kernel masks by equal ids of query and key, and by a function of the key's place and of one number a query. What a
row of prompts shared by answers shows (`models.decoder.branch_mask`) is neither, but two stretches of keys: the
segment's prompt, which is an id, and the query's own answer so far, which is an interval. So keys and values are given
twice, as prompts and as answers. Which blocks of keys a block of queries sees at all is found as the rows come, and
only those are read and multiplied: the time goes with what is seen and not with the square of a row's length.

Shape letters as in `models.decoder`; R is a row's length L, made up to whole blocks.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention.splash_attention_mask_info import MaskInfo

from rl_reasoning.arrays import Array
from rl_reasoning.models.attention import MIXED
from rl_reasoning.parallel import attention_by_device
from rl_reasoning.parallel.rules import ROWS

LANES = 128  # a block's length is a multiple
BLOCK = 512  # queries, and keys, that are multiplied at a time
BITS = 16  # of a place in a row: two of them are the one number that the kernel's mask has of a query
_NOBODY = -1  # an id that no query has


class Blocks(NamedTuple):
    """Who sees whom in packed rows, as the kernel takes it.

    query_ids: [B, R]. key_ids: [B, 2R], of keys as prompts and then of keys as answers. own: [B, R], where a query's
    own answer begins, in the bits above its own place in the row. by_query: [B, 2, 1, R / block, steps], for each block
    of queries the blocks of keys that it sees, see `listed`. by_key: [B, 2, 1, R / block, 2R / block], for each block
    of keys, which is the last axis, the blocks of queries.
    """

    query_ids: jax.Array
    key_ids: jax.Array
    own: jax.Array
    by_query: jax.Array
    by_key: jax.Array


def blocks(segments: Array, branches: Array) -> Blocks:
    """What `branch_mask` says, for `splash_attention`; but padding sees itself.

    Args: segments, branches: [B, L], see there. Prompt and answers of a segment each lie in one piece.
    Raises: ValueError: a row is too long.
    """
    length = segments.shape[1]
    if length > 2**BITS:
        raise ValueError(f"rows of {length} tokens: splash attention takes at most {2**BITS}; give a smaller "
                         "rl.row_length, or model.attention=xla")
    size = min(BLOCK, -(-length // LANES) * LANES)
    segments, branches = (jnp.pad(jnp.asarray(x, jnp.int32), ((0, 0), (0, -length % size)))
                          for x in (segments, branches))
    place = jnp.broadcast_to(jnp.arange(segments.shape[1], dtype=jnp.int32), segments.shape)
    real, prompt = segments > 0, branches == 0
    other = jnp.diff(segments, axis=1, prepend=-1) != 0
    first = _latest(other, place)
    own = _latest(other | (jnp.diff(branches, axis=1, prepend=-1) != 0), place)
    own = jnp.where(real, own, place)
    end = _latest(~prompt & (other | jnp.pad(prompt, ((0, 0), (1, 0)))[:, :-1]), place)  # of the prompt
    end = jnp.where(prompt, place + 1, end)
    seen = jnp.concatenate([_touched(first, jnp.where(real, end, 0), size),
                            _touched(own, jnp.where(real & prompt, 0, place + 1), size)], axis=-1)
    key_ids = jnp.concatenate([jnp.where(real & prompt, segments, _NOBODY),
                               jnp.where(real & prompt, _NOBODY, segments)], axis=1)
    count = seen.shape[1]
    # What a block sees as prompts ends before what it sees as answers, but for the block where it does and for its own.
    by_query, by_key = listed(seen, min(count + 2, 2 * count)), listed(seen.swapaxes(1, 2), count)
    return Blocks(segments, key_ids, own << BITS | place, jnp.stack(by_query, axis=1)[:, :, None],
                  jnp.stack(by_key, axis=1)[:, :, None].swapaxes(3, 4))


def _latest(where: jax.Array, place: jax.Array) -> jax.Array:
    """[B, R]: the latest place, up to each, at which something is so."""
    return jax.lax.cummax(jnp.where(where, place, 0), axis=1)


def _touched(start: jax.Array, stop: jax.Array, size: int) -> jax.Array:
    """[B, R / size, R / size]: whether any query of a block (second axis) sees into a block of keys: start to stop."""
    begins = jnp.arange(0, start.shape[1], size)
    touched = (start[..., None] < begins + size) & (stop[..., None] > jnp.maximum(begins, start[..., None]))
    return touched.reshape(len(start), -1, size, begins.size).any(axis=2)


def listed(seen: jax.Array, steps: int) -> tuple[jax.Array, jax.Array]:
    """The first `steps` places [..., steps] where `seen` [..., M] is true, the last of them repeated; and 1 until then.

    int32, as kernels take them: what is named again is not read again.
    """
    count, step = seen.sum(axis=-1, keepdims=True), jnp.arange(steps)
    order = jnp.argsort(~seen, axis=-1, stable=True)
    places = jnp.take_along_axis(order, jnp.clip(jnp.minimum(step, count - 1), 0), axis=-1)
    return places.astype(jnp.int32), (step < count).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class _Mask:
    """The kernel's function of a query's number and a key's place, in rows of so many places."""

    length: int

    def __call__(self, query: jax.Array, key: jax.Array) -> jax.Array:
        start, place = jax.lax.shift_right_logical(query, BITS), query & (2**BITS - 1)
        own = key - self.length
        return jnp.where(own < 0, key <= place, (own >= start) & (own <= place))


def splash_attention(queries: jax.Array, keys: jax.Array, values: jax.Array, seen: Blocks, *,
                     interpret: bool = False) -> jax.Array:
    """The values that each query sees, weighted by softmax(q k / sqrt(h)): `attention.attention` for packed rows.

    Args:
      queries: [B, L, K, G, h]. keys: [B, K, h, L]. values: [B, K, L, h].
      interpret: whether the kernel is interpreted, which any machine can do, slowly.

    Returns:
      [B, L, K, G, h] in the type of the queries.
    """
    return attention_by_device(jax.vmap(functools.partial(_row, interpret=interpret)), queries, keys, values, seen,
                               rows=ROWS)


def _row(queries: jax.Array, keys: jax.Array, values: jax.Array, seen: Blocks, *, interpret: bool) -> jax.Array:
    """One row, on one device."""
    length, kv_heads, group, width = queries.shape
    rows = seen.query_ids.size
    size = rows // seen.by_key.shape[2]
    scaled = (queries.astype(jnp.float32) * width ** -0.5).astype(queries.dtype)
    scaled = scaled.transpose(1, 2, 0, 3).reshape(kv_heads * group, length, width)
    own: Any = seen.own  # jax says that it is of numpy, and takes it as it comes
    by_query, by_key = (MaskInfo(listed[0], None, listed[1], None, own) for listed in (seen.by_query, seen.by_key))
    kernel: Any = splash.SplashAttentionKernel(
        by_query, by_query, by_key, block_sizes=splash.BlockSizes(size, size, size, size, size, size, size, size),
        is_mqa=False, save_residuals=False, mask_value=splash.DEFAULT_MASK_VALUE, attn_logits_soft_cap=None,
        residual_checkpoint_name=MIXED, mask_function=_Mask(rows), interpret=interpret)
    padded = [jnp.pad(x, ((0, 0), (0, rows - length), (0, 0))) for x in (scaled, keys.swapaxes(1, 2), values)]
    twice = [jnp.concatenate([x, x], axis=1) for x in padded[1:]]
    mixed = kernel(padded[0], *twice, splash.SegmentIds(seen.query_ids, seen.key_ids))
    return mixed[:, :length].reshape(kv_heads, group, length, width).transpose(2, 0, 1, 3)
