"""Softmax attention, in float32, with a backward pass that makes the scores again from what little is kept of them.

Kept are the result and, of each query, its largest score and the sum of its weights; a score for each pair of
positions exists for some rows and some queries at a time, forward and backward (as in FlashAttention, arXiv
2205.14135, but in plain products, which are what a CPU and XLA are good at). Spans of queries leave out the keys that
lie behind all of the span. Of decoding, where nothing is kept, see `models.cache`.

Shape letters as in `models.decoder`; G = H / K query heads share a key head.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from rl_reasoning.parallel import attention_by_device, parts
from rl_reasoning.parallel.rules import CONTEXT, ROWS

MIXED = "mixed values"  # what `models.remat` knows the results by
QUERIES = 512  # of a row, whose scores exist at once
SCORES = 2**20  # that exist at once where several rows have fewer: 4 MiB of float32, about what a core's cache holds
SPANS = 4  # at most, since each is compiled: they leave out 3/8 of the scores, and any number of them less than 1/2
SHORTEST = 96  # queries of a span: shorter products lose more than they leave out
_NEVER = -1e30  # finite, so that a query that sees nothing gives a mean and not NaN


def attention(queries: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array) -> jax.Array:
    """The values that each query sees, weighted by softmax(q k / sqrt(h)).

    Args:
      queries: [B, L, K, G, h]. keys: [B, K, h, L]. values: [B, K, L, h].
      mask: [B, L, L] bool, True where a query (second axis) may see a key (third), never a later one.

    Returns:
      [B, L, K, G, h] in the type of the values.
    """
    if parts((CONTEXT,)) == 1:
        return _looking_back(queries, keys, values, mask)
    # Each device has its part of the queries and needs all keys; how much they see of them is in the mask alone.
    return attention_by_device(_looking_back, queries, keys, values, mask, rows=ROWS, along=(CONTEXT,))


@jax.custom_vjp
def _looking_back(queries: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array) -> jax.Array:
    return _forward(queries, keys, values, mask)[0]


def _forward(queries: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array) -> tuple[jax.Array, Any]:
    def rows(queries: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array) -> Any:
        found = []
        for start, stop, seen in _spans(queries.shape[1], keys.shape[-1]):
            part = queries[:, start:stop], mask[:, start:stop, :seen]
            found.append(_blocks(functools.partial(_mix, keys[..., :seen], values[:, :, :seen]), part))
        return jax.tree.map(lambda *spans: jnp.concatenate(spans, axis=1), *found)

    mixed, top, mass = (checkpoint_name(x, MIXED) for x in _some_rows(rows, queries, keys, values, mask))
    return mixed, (queries, keys, values, mask, mixed, top, mass)


def _backward(kept: Any, upstream: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    def rows(queries: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array, *others: jax.Array) -> Any:
        to_queries, to_keys, to_values = [], jnp.zeros(keys.shape), jnp.zeros(keys.shape)
        for start, stop, seen in _spans(queries.shape[1], keys.shape[-1]):
            part = queries[:, start:stop], mask[:, start:stop, :seen], *(x[:, start:stop] for x in others)
            moved, *pulls = _blocks(functools.partial(_pull, keys[..., :seen], values[:, :, :seen]), part, sums=2)
            to_queries.append(moved)
            to_keys, to_values = (x.at[..., :seen].add(pull) for x, pull in zip((to_keys, to_values), pulls,
                                                                                strict=True))
        return (jnp.concatenate(to_queries, axis=1), to_keys.astype(keys.dtype),
                to_values.swapaxes(2, 3).astype(values.dtype))

    return *_some_rows(rows, *kept, upstream), None


_looking_back.defvjp(_forward, _backward)


def _mix(keys: jax.Array, values: jax.Array, queries: jax.Array, mask: jax.Array) -> tuple[jax.Array, ...]:
    """Some queries: what they see [B, L, K, G, h], their largest scores and the sums of their weights [B, L, K, G]."""
    scores = _scores(keys, queries, mask)
    top = scores.max(axis=-1)
    weights = jnp.exp(scores - top[..., None])
    mass = weights.sum(axis=-1)
    mixed = _product(_flat(weights.astype(values.dtype)), values).reshape(*mass.shape, -1) / mass[..., None]
    return tuple(x.swapaxes(1, 2) for x in (mixed.astype(values.dtype), top, mass))


def _pull(keys: jax.Array, values: jax.Array, queries: jax.Array, mask: jax.Array, mixed: jax.Array, top: jax.Array,
          mass: jax.Array, upstream: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What some queries pull at themselves [B, L, K, G, h], at the keys and, turned as those, the values [B, K, h, S].

    A weight w = exp(score - top) / mass and a pull g at what is mixed pull at the value by w g, at the score by
    w g (value - mixed). The products are written so that what has to be turned for them has h numbers a position and
    not S; the 1 / mass is g's, which is the smaller, too.
    """
    upstream = upstream.astype(jnp.float32) / mass[..., None]
    against = (upstream * mixed).sum(axis=-1).swapaxes(1, 2)[..., None]
    upstream = _flat(upstream.astype(values.dtype).swapaxes(1, 2))
    weights = jnp.exp(_scores(keys, queries, mask) - top.swapaxes(1, 2)[..., None])
    towards = _product(upstream, values.swapaxes(2, 3)).reshape(weights.shape)
    scale = keys.shape[2] ** -0.5
    pull = jnp.where(mask[:, None, :, None], weights * (towards - against), 0)
    pull, weights = (_flat(x.astype(values.dtype)) for x in (pull, weights))
    moved = _product(pull, keys.swapaxes(2, 3)).reshape(*against.shape[:-1], -1).swapaxes(1, 2) * scale
    to_keys = _product(_flat(queries.swapaxes(1, 2)).swapaxes(2, 3), pull) * scale
    return moved.astype(queries.dtype), to_keys, _product(upstream.swapaxes(2, 3), weights)


def _scores(keys: jax.Array, queries: jax.Array, mask: jax.Array) -> jax.Array:
    """[B, K, L, G, S] in float32."""
    queries = queries.swapaxes(1, 2)
    scores = _product(_flat(queries), keys).reshape(*queries.shape[:-1], -1) * keys.shape[2] ** -0.5
    return jnp.where(mask[:, None, :, None], scores, _NEVER)


def _product(one: jax.Array, two: jax.Array) -> jax.Array:
    """One plain product for each row and key head: an einsum over these axes is lowered to one 4 to 8 times slower."""
    return jnp.matmul(one, two, preferred_element_type=jnp.float32)


def _flat(x: jax.Array) -> jax.Array:
    """[B, K, L, G, n] -> [B, K, L G, n]."""
    return x.reshape(*x.shape[:2], -1, x.shape[-1])


def _spans(length: int, keys: int) -> Iterator[tuple[int, int, int]]:
    """(first query, last, how many keys they see), each of at most `QUERIES` or of a multiple.

    All keys, where the queries are only a part of the row.
    """
    count = max(1, min(SPANS, length // SHORTEST)) if length == keys else 1
    size = -(-length // count)
    size = size if size <= QUERIES else -(-size // QUERIES) * QUERIES
    for start in range(0, length, size):
        stop = min(start + size, length)
        whole = start + (stop - start) // QUERIES * QUERIES
        for first, last in ((start, whole), (whole, stop)):
            if first < last:
                yield first, last, stop if length == keys else keys


def _blocks(function: Callable[..., Any], part: tuple[jax.Array, ...], sums: int = 0) -> Any:
    """A function of arrays [B, L, ...], for `QUERIES` at a time; its last `sums` results are added up."""
    count = max(1, part[0].shape[1] // QUERIES)
    if count == 1:
        return function(*part)
    blocks = tuple(jnp.moveaxis(x.reshape(x.shape[0], count, -1, *x.shape[2:]), 1, 0) for x in part)

    def add(so_far: Any, block: Any) -> Any:
        found = function(*block)
        cut = len(found) - sums
        return jax.tree.map(jnp.add, so_far, found[cut:]), found[:cut]

    shapes = jax.eval_shape(function, *(x[0] for x in blocks))
    added, listed = jax.lax.scan(add, tuple(jnp.zeros(x.shape, x.dtype) for x in shapes[len(shapes) - sums:]), blocks)
    return *(jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[3:]) for x in listed), *added


def _some_rows(function: Callable[..., Any], *arrays: jax.Array) -> Any:
    """A function of arrays [B, ...], for as many rows at a time as `SCORES` allow; for all where devices share them."""
    (rows, length, *heads), keys = arrays[0].shape[:-1], arrays[1].shape[-1]
    longest = max(stop - start for start, stop, _ in _spans(length, keys))
    room = max(1, SCORES // (heads[0] * heads[1] * min(longest, QUERIES) * keys))
    size = max(n for n in range(1, rows + 1) if rows % n == 0 and n <= room)
    if size == rows or parts(ROWS) > 1:
        return function(*arrays)
    found = jax.lax.map(lambda some: function(*some), tuple(x.reshape(-1, size, *x.shape[1:]) for x in arrays))
    return tuple(x.reshape(-1, *x.shape[2:]) for x in found)
