"""Keys and values of tokens that came before, and what new tokens see of them.

A row's cache is its own, or shared: m rows may read what R = B / m rows hold, which is how all answers to a prompt see
it. What is read of a shared cache is read once for m rows, by one product (as in Hydragen, arXiv 2402.05099).

Shape letters as in `models.decoder`; G = H / K query heads share a key head; S places are n blocks of W.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.models.decode_kernel import decode_attention

BLOCK = 64  # places of a block on a CPU
_NEVER = -1e30  # finite, so that a token that sees nothing gives a mean and not NaN


class Cache(NamedTuple):
    """Keys and values of one layer, in the layouts in which their products run fastest.

    A CPU multiplies by some dozens of keys at a time, of each of which it takes one dimension after the other: in
    blocks of so many those lie together, and keys that have to come from memory come three times as fast. Elsewhere
    there is one block.

    keys: [R, K, n, h, W]. values: [R, K, S, h].
    """

    keys: jax.Array
    values: jax.Array

    @property
    def places(self) -> int:
        """S = n W."""
        return self.values.shape[2]


class Shared(NamedTuple):
    """Caches that several rows read and none writes.

    caches: one a layer, of R rows. lengths: [R] how many places are seen.
    """

    caches: list[Cache]
    lengths: jax.Array


def empty_cache(config: DecoderConfig, rows: int, places: int) -> list[Cache]:
    """A cache for each layer, of zeros, in one block."""
    shape, dtype = (rows, config.kv_heads), config.precision.compute
    keys, values = (*shape, 1, config.head_dim, places), (*shape, places, config.head_dim)
    return [Cache(jnp.zeros(keys, dtype), jnp.zeros(values, dtype)) for _ in range(config.layers)]


def write(cache: Cache, keys: jax.Array, values: jax.Array, place: jax.Array | int) -> Cache:
    """Puts keys [R, K, h, L] and values [R, K, L, h] at L places from `place` on, which lie in one block."""
    width = cache.keys.shape[4]
    block, at = (0, place) if cache.keys.shape[2] == 1 else (place // width, place % width)
    return Cache(jax.lax.dynamic_update_slice(cache.keys, keys[:, :, None], (0, 0, block, 0, at)),
                 jax.lax.dynamic_update_slice_in_dim(cache.values, values, place, axis=2))


def with_room(config: DecoderConfig, cache: Cache, room: int, after: Cache | None = None) -> Cache:
    """What the first places of a cache in one block hold, and `room` places at the end, in blocks as the config wants.

    Where blocks want more places than that, there are some between the two that nothing uses.

    Args: after: what the room holds: the last places of this cache, in any blocks; nothing if not given.
    """
    keys, values = cache.keys[:, :, 0], cache.values
    size = cache.places + room
    width = BLOCK if config.for_cpu and size > BLOCK else size
    between = -size % width
    later = [jnp.zeros((*values.shape[:2], between if after else between + room, values.shape[3]), values.dtype)]
    later += [after.values[:, :, -room:]] if after else []
    values = jnp.concatenate([values, *later], axis=2)
    later = [x.swapaxes(2, 3) for x in later[:1]] + ([one_block(after).keys[:, :, 0, :, -room:]] if after else [])
    keys = jnp.concatenate([keys, *later], axis=3)
    return Cache(keys.reshape(*keys.shape[:3], -1, width).swapaxes(2, 3), values)


def one_block(cache: Cache) -> Cache:
    """The same in one block."""
    rows, heads, _, width, _ = cache.keys.shape
    return cache._replace(keys=cache.keys.swapaxes(2, 3).reshape(rows, heads, 1, width, -1))


def attend(config: DecoderConfig, queries: jax.Array, cache: Cache, mask: jax.Array,
           shared: tuple[Cache, jax.Array] | None = None) -> jax.Array:
    """The values that each query sees, weighted by softmax(q k / sqrt(h)) in float32.

    Args:
      queries: [B, L, K, G, h]. cache: of B rows. mask: [B, L, S] bool, True where a place of it is seen.
      shared: a cache of R rows, each for B / R rows that follow one another, and [R] how many of its places are seen.

    Returns:
      [B, L, K, G, h] in the type of the values.
    """
    own = _part(config, queries, cache, mask[:, None])
    if shared is None:
        return own[0].astype(cache.values.dtype)
    common, lengths = shared
    seen = jnp.arange(common.places) < lengths[:, None]
    return _merged(own, _part(config, queries, common, seen[:, None, None])).astype(cache.values.dtype)


def _part(config: DecoderConfig, queries: jax.Array, cache: Cache, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What is seen of one cache alone [B, L, K, G, h], and the logarithm of its weights' sum [B, L, K, G], in float32.

    mask: [R, m or 1, L or 1, S].
    """
    rows, length, heads, group, width = queries.shape
    owners = cache.keys.shape[0]
    queries = queries.reshape(owners, -1, length, heads, group, width).transpose(0, 3, 1, 2, 4, 5)
    if config.decode_attention == "kernel" and length == 1:
        flat = queries.reshape(owners, 1, heads, -1, width)
        mixed, mass = decode_attention(flat, *cache, mask[:, 0], interpret=config.interpret)
        mixed, mass = mixed.reshape(queries.shape), mass.reshape(queries.shape[:-1])
    else:
        mixed, mass = _softmax(queries, cache, mask)
    return (mixed.transpose(0, 2, 3, 1, 4, 5).reshape(rows, length, heads, group, width),
            mass.transpose(0, 2, 3, 1, 4).reshape(rows, length, heads, group))


def _softmax(queries: jax.Array, cache: Cache, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`_part` of queries [R, K, m, L, G, h], in plain products; as they lie."""
    keys, values = cache
    (owners, heads, blocks, width, block), each = keys.shape, queries.shape[2:5]
    flat = queries.reshape(owners, heads, 1, -1, width)
    if blocks > 1:  # The barrier keeps XLA from making one product of all blocks, for which it copies the keys.
        flat = jax.lax.optimization_barrier(jnp.broadcast_to(flat, (owners, heads, blocks, *flat.shape[3:])))
    scores = jnp.matmul(flat, keys, preferred_element_type=jnp.float32) * width ** -0.5
    scores = scores.reshape(owners, heads, blocks, *each, block)
    mask = jnp.moveaxis(mask.reshape(*mask.shape[:3], blocks, block), 3, 1)
    scores = jnp.where(mask[:, None, :, :, :, None], scores, _NEVER)
    top = scores.max(axis=-1).max(axis=2)
    weights = jnp.exp(scores - top[:, :, None, ..., None])
    mass = weights.sum(axis=-1).sum(axis=2)
    weights = (weights / mass[:, :, None, ..., None]).astype(values.dtype)
    weights = jnp.moveaxis(weights, 2, -2).reshape(owners, heads, -1, blocks * block)
    mixed = jnp.matmul(weights, values, preferred_element_type=jnp.float32).reshape(queries.shape)
    return mixed, top + jnp.log(mass)


def _merged(one: tuple[jax.Array, jax.Array], other: tuple[jax.Array, jax.Array]) -> jax.Array:
    """What is seen of two caches, from what is seen of each."""
    (mixed, mass), (mixed_too, mass_too) = one, other
    most = jnp.maximum(mass, mass_too)
    share, share_too = jnp.exp(mass - most)[..., None], jnp.exp(mass_too - most)[..., None]
    return (mixed * share + mixed_too * share_too) / (share + share_too)
