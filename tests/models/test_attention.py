"""Attention against the plain softmax over all pairs, forward and backward, however rows and queries are cut."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.models import attention as module
from rl_reasoning.models.attention import attention
from rl_reasoning.models.decoder import branch_mask

ROWS, LENGTH, KEYS, GROUP, WIDTH = 4, 11, 2, 3, 6


def plain(queries, keys, values, mask):
    scores = jnp.einsum("blkgh,bkhs->bkgls", queries, keys) * WIDTH ** -0.5
    weights = jax.nn.softmax(jnp.where(mask[:, None, None], scores, -1e30), axis=-1)
    return jnp.einsum("bkgls,bksh->blkgh", weights, values)


def inputs():
    rng = np.random.default_rng(0)
    shapes = (ROWS, LENGTH, KEYS, GROUP, WIDTH), (ROWS, KEYS, WIDTH, LENGTH), (ROWS, KEYS, LENGTH, WIDTH)
    drawn = [jnp.asarray(2 * rng.normal(size=shape), jnp.float32) for shape in shapes]
    return drawn, jnp.asarray(rng.normal(size=shapes[0]), jnp.float32)


def packed_mask():
    """Rows of segments with branches; the last positions of each are padding, which sees nothing."""
    segments = np.sort(np.random.default_rng(0).integers(1, 3, (ROWS, LENGTH)), axis=1)
    segments[:, -2:] = 0
    return branch_mask(jnp.asarray(segments), jnp.asarray(np.arange(LENGTH) // 2 % 3 * np.ones((ROWS, 1), int)))


def compare(mask):
    arrays, pull = inputs()
    pull = jnp.where(mask.any(axis=-1)[:, :, None, None, None], pull, 0)  # what padding gives, nothing reads
    both = jax.jit(lambda *arrays: [jax.vjp(lambda *a, f=function: f(*a), *arrays)[1](pull) for function in (
        lambda *a: attention(*a, mask), lambda *a: plain(*a, mask))])(*arrays)
    for one, other in zip(*both, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    found, expected = attention(*arrays, mask), plain(*arrays, mask)
    seen = np.asarray(mask.any(axis=-1))
    np.testing.assert_allclose(found[seen], expected[seen], atol=1e-5)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("settings", [
    {}, {"SHORTEST": 3}, {"SHORTEST": 3, "QUERIES": 2}, {"SCORES": 2 * KEYS * GROUP * LENGTH * LENGTH}, {"QUERIES": 4}])
def test_equals_the_plain_softmax_forward_and_backward(monkeypatch, settings):
    """Whole; in spans; in spans of blocks; two rows at a time; in blocks with one over."""
    for name, value in settings.items():
        monkeypatch.setattr(module, name, value)
    compare(packed_mask())


def test_spans_cover_all_queries_and_leave_out_only_later_keys(monkeypatch):
    for length in (1, 95, 192, 193, 500, 2048, 2049, 5000):
        spans = list(module._spans(length, length))
        assert [first for first, _, _ in spans] == [0, *[last for _, last, _ in spans[:-1]]]
        assert spans[-1][1:] == (length, length)
        assert all(last <= seen for _, last, seen in spans)
        assert all(last - first <= module.QUERIES or (last - first) % module.QUERIES == 0 for first, last, _ in spans)
    assert list(module._spans(192, 192)) == [(0, 96, 96), (96, 192, 192)]
    assert list(module._spans(191, 191)) == [(0, 191, 191)]
    assert list(module._spans(600, 2400)) == [(0, 512, 2400), (512, 600, 2400)]  # a part of a row


def test_a_query_that_sees_nothing_pulls_at_no_score():
    arrays, pull = inputs()
    mask = packed_mask()
    empty = ~np.asarray(mask.any(axis=-1))
    pull = jnp.where(empty[:, :, None, None, None], pull, 0)
    to_queries, to_keys, _ = jax.vjp(lambda *a: attention(*a, mask), *arrays)[1](pull)
    assert empty.any()
    assert not np.any(to_queries)
    assert not np.any(to_keys)


def test_finite_differences():
    arrays, pull = inputs()
    mask = packed_mask()
    loss = jax.jit(lambda *a: (attention(*a, mask) * jnp.where(
        mask.any(axis=-1)[:, :, None, None, None], pull, 0)).sum())
    gradient = jax.grad(loss, argnums=(0, 1, 2))(*arrays)
    for number, way in enumerate(inputs()[0]):
        step = 1e-2 * way
        moved = [[x + sign * step if n == number else x for n, x in enumerate(arrays)] for sign in (1, -1)]
        slope = (loss(*moved[0]) - loss(*moved[1])) / 2
        assert slope == pytest.approx(float((gradient[number] * step).sum()), rel=2e-2, abs=2e-3)


def test_half_precision_keeps_its_type_and_is_near():
    arrays, _ = inputs()
    found = attention(*(x.astype(jnp.bfloat16) for x in arrays), packed_mask())
    assert found.dtype == jnp.bfloat16
    seen = np.asarray(packed_mask().any(axis=-1))
    np.testing.assert_allclose(found[seen].astype(np.float32), plain(*arrays, packed_mask())[seen], atol=0.1)
