"""Caches: what is written and seen stays the same however places are cut, and whether rows share a cache or copy it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.models import cache as module
from rl_reasoning.models.cache import Cache, attend, empty_cache, one_block, with_room, write
from rl_reasoning.models.decoder import DecoderConfig

CONFIG = DecoderConfig(20, 2, 16, 6, 2, 6, 24)
ROWS, KEYS, GROUP, WIDTH, LENGTH = 6, 2, 3, 6, 3


@pytest.fixture(params=[False, True], ids=["one block", "blocks"])
def config(request, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 4)
    return dataclasses.replace(CONFIG, for_cpu=request.param)


def normal(number, *shape):
    return jnp.asarray(2 * np.random.default_rng(number).normal(size=shape), jnp.float32)


def cache_of(number, rows, places):
    return Cache(normal(number, rows, KEYS, 1, WIDTH, places), normal(number + 1, rows, KEYS, places, WIDTH))


def plain(queries, cache, mask):
    """By the definition, over a cache in one block."""
    scores = jnp.einsum("blkgh,bkhs->bkgls", queries, cache.keys[:, :, 0]) * WIDTH ** -0.5
    weights = jax.nn.softmax(jnp.where(mask[:, None, None], scores, -jnp.inf), axis=-1)
    return jnp.einsum("bkgls,bksh->blkgh", weights, cache.values)


def test_queries_may_see_any_place(config):
    queries, own = normal(0, ROWS, LENGTH, KEYS, GROUP, WIDTH), cache_of(1, ROWS, 12)
    mask = jax.random.bernoulli(jax.random.key(5), 0.5, (ROWS, LENGTH, 12)).at[..., 0].set(True)
    found = attend(config, queries, with_room(config, own, 0), mask)
    np.testing.assert_allclose(found, plain(queries, own, mask), atol=1e-5)


@pytest.mark.parametrize("owners", [2, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 3, 6))])
@pytest.mark.parametrize("length", [1, LENGTH])
@pytest.mark.parametrize("attention", ["xla", "kernel"])
def test_a_shared_cache_is_as_good_as_copies(config, owners, length, attention):
    if attention == "kernel":  # for TPUs, whose caches have one block
        config = dataclasses.replace(config, for_cpu=False, decode_attention="kernel", interpret=True)
    queries, own, shared = normal(0, ROWS, length, KEYS, GROUP, WIDTH), cache_of(1, ROWS, 9), cache_of(3, owners, 7)
    lengths = jnp.arange(owners) % 7 + 1
    mask = jax.random.bernoulli(jax.random.key(5), 0.5, (ROWS, length, 9)).at[..., 0].set(True)
    laid = with_room(config, own, 0)
    wide = jnp.pad(mask, ((0, 0), (0, 0), (0, laid.places - 9)))
    found = attend(config, queries, laid, wide, (with_room(config, shared, 0), lengths))
    copies = jax.tree.map(lambda x: jnp.repeat(x, ROWS // owners, axis=0), shared)
    seen = jnp.repeat(jnp.arange(7) < lengths[:, None], ROWS // owners, axis=0)
    seen = jnp.broadcast_to(seen[:, None], (ROWS, length, 7))
    both = Cache(jnp.concatenate([copies.keys, own.keys], 4), jnp.concatenate([copies.values, own.values], 2))
    np.testing.assert_allclose(found, plain(queries, both, jnp.concatenate([seen, mask], axis=2)), atol=1e-5)


def test_what_is_written_lies_where_it_was_put(config):
    laid = with_room(config, cache_of(1, ROWS, 5), 6)
    for place in (5, 7, 8, 10):
        keys, values = normal(place, ROWS, KEYS, WIDTH, 1), normal(place, ROWS, KEYS, 1, WIDTH)
        before, laid = one_block(laid), jax.jit(write)(laid, keys, values, place)
        found, others = one_block(laid), np.arange(laid.places) != place
        np.testing.assert_array_equal(found.keys[:, :, 0, :, place], keys[..., 0])
        np.testing.assert_array_equal(found.values[:, :, place], values[:, :, 0])
        np.testing.assert_array_equal(found.keys[..., others], before.keys[..., others])
        np.testing.assert_array_equal(found.values[:, :, others], before.values[:, :, others])


def test_room_is_at_the_end_and_holds_what_it_is_given(config):
    first, after = cache_of(1, ROWS, 5), cache_of(3, ROWS, 9)
    for room in (0, 1, 4, 9):
        found = one_block(with_room(config, first, room))
        assert found.places == (5 + room if not config.for_cpu else -(-(5 + room) // 4) * 4)
        np.testing.assert_array_equal(found.keys[..., :5], first.keys)
        np.testing.assert_array_equal(found.values[:, :, :5], first.values)
        assert not found.keys[..., 5:].any()
        assert not found.values[:, :, 5:].any()
    joined = one_block(with_room(config, first, 6, with_room(config, after, 0)))
    end = 3 if config.for_cpu else 0  # nine places are twelve in blocks of four
    kept = one_block(with_room(config, after, 0))
    np.testing.assert_array_equal(joined.keys[..., :5], first.keys)
    np.testing.assert_array_equal(joined.keys[..., -6:], kept.keys[..., 9 + end - 6:])
    np.testing.assert_array_equal(joined.values[:, :, -6:], kept.values[:, :, 9 + end - 6:])


def test_an_empty_cache_is_zeros_in_one_block(config):
    caches = empty_cache(config, 3, 10)
    assert len(caches) == config.layers
    assert {(cache.keys.shape, cache.values.shape) for cache in caches} == {((3, 2, 1, 6, 10), (3, 2, 10, 6))}
