"""The decode kernel, interpreted, against the plain softmax over the whole cache."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.config import Mesh, Sampling
from rl_reasoning.models import decode_kernel
from rl_reasoning.models.cache import Cache, attend
from rl_reasoning.models.decode_kernel import decode_attention, slots_at_a_time
from rl_reasoning.models.decoder import DecoderConfig, initialize
from rl_reasoning.parallel import make_layout
from rl_reasoning.sampling.engine import JaxEngine
from rl_reasoning.types import Prompts

CONFIG = DecoderConfig(20, 2, 16, 4, 2, 6, 24)
ROWS, KEYS, GROUP, WIDTH, SLOTS = 8, 2, 3, 6, 300  # three blocks of 128, of which the last is cut


def inputs(dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = (ROWS, 1, KEYS, GROUP, WIDTH), (ROWS, KEYS, 1, WIDTH, SLOTS), (ROWS, KEYS, SLOTS, WIDTH)
    return [2 * jax.random.normal(key, shape, dtype) for key, shape in zip(keys, shapes, strict=True)]


def ragged():
    """What rows of the decode loop see: a prompt from the first slot on, and a stretch of a ring that may go round."""
    prompt, ring = 130, np.arange(SLOTS - 130)
    seen = np.zeros((ROWS, 1, SLOTS), bool)
    for row, (filled, turn, count) in enumerate([(1, 0, 1), (130, 3, 2), (7, 169, 170), (128, 5, 30), (129, 160, 9),
                                                 (0, 100, 1), (60, 40, 41), (2, 127, 90)]):
        seen[row, 0, :filled] = True
        seen[row, 0, prompt:] = (turn - ring) % len(ring) < count
    seen[6, 0, :20] = False  # behind a window
    return jnp.asarray(seen)


def plain(queries, keys, values, mask):
    return attend(CONFIG, queries, Cache(keys, values), mask)


@pytest.fixture
def short_blocks(monkeypatch):
    monkeypatch.setattr(decode_kernel, "BYTES", 1)


@pytest.mark.usefixtures("short_blocks")
def test_equals_the_plain_softmax_over_ragged_caches():
    arrays, mask = inputs(), ragged()
    assert slots_at_a_time(arrays[1]) == 128
    found = decode_attention(*arrays, mask, interpret=True)[0]
    np.testing.assert_allclose(found, plain(*arrays, mask), atol=1e-6, rtol=1e-6)


@pytest.mark.usefixtures("short_blocks")
def test_what_no_row_sees_is_not_even_read():
    queries, keys, values = inputs()
    mask = ragged()
    touched = np.pad(mask[:, 0], ((0, 0), (0, 84))).reshape(ROWS, 3, 128).any(axis=2)
    assert not touched.all(axis=1).all()
    unread = jnp.asarray(np.repeat(~touched, 128, axis=1)[:, :SLOTS])
    broken = [jnp.where(unread[:, None, None, None], jnp.nan, keys),
              jnp.where(unread[:, None, :, None], jnp.nan, values)]
    found = decode_attention(queries, *broken, mask, interpret=True)[0]
    np.testing.assert_array_equal(found, decode_attention(queries, keys, values, mask, interpret=True)[0])
    assert np.isfinite(found).all()
    assert not decode_attention(queries, keys, values, jnp.zeros_like(mask), interpret=True)[0].any()


@pytest.mark.usefixtures("short_blocks")
@pytest.mark.parametrize("rows", [ROWS, pytest.param(3, marks=pytest.mark.slow)])
def test_on_a_mesh_each_device_has_its_rows_and_heads(rows):
    """Or all of them, where a prefill of few prompts of one token leaves some devices without a row."""
    arrays = [x[:rows] for x in (*inputs(), ragged())]
    layout = make_layout(Mesh(data=2, fsdp=2, tensor=2), {})
    with layout():
        found = jax.jit(lambda *a: decode_attention(*a, interpret=True)[0])(*jax.device_put(
            arrays, layout.answers() if rows == ROWS else layout.whole))
    np.testing.assert_allclose(found, plain(*arrays), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("heads", "width", "slots", "expected"), [
    (1, 128, 1280, 1280), (1, 128, 16384, 2048), (4, 128, 8192, 512), (8, 128, 8192, 256), (2, 64, 100, 128)])
def test_a_block_is_about_a_mebibyte_and_no_longer_than_the_cache(heads, width, slots, expected):
    assert slots_at_a_time(jax.ShapeDtypeStruct((4, heads, 1, width, slots), jnp.bfloat16)) == expected


@pytest.mark.usefixtures("short_blocks")
@pytest.mark.parametrize(("windows", "counts", "slots"), [((0, 5), [3, 4, 2], 4), ((), [2, 4, 2], 0)])
def test_an_engine_with_it_draws_the_same_tokens(windows, counts, slots):
    """More answers than slots, so that the ring goes round and slots are refilled, and a window in one of the layers;
    or prompts that answers share, of which a prompt of one token has nothing to be seen."""
    config = DecoderConfig(20, 2, 16, 4, 2, 6, 24, windows=windows)
    parameters = jax.tree.map(lambda leaf: leaf + 0.01, initialize(config, jax.random.key(0)))
    prompts = Prompts(np.array([[3, 1, 2, 9], [7, 4, 0, 0], [5, 0, 0, 0]], np.int32), np.array([4, 2, 1], np.int32))
    settings = Sampling(max_tokens=12, slots=slots)
    fast = dataclasses.replace(config, decode_attention="kernel", interpret=True)
    plain, found = (JaxEngine(each, 4).generate(parameters, prompts, counts, settings, jax.random.key(1))
                    for each in (config, fast))
    np.testing.assert_array_equal(found.ids, plain.ids)
    np.testing.assert_array_equal(found.stop_reasons, plain.stop_reasons)
    np.testing.assert_allclose(found.logprobs, plain.logprobs, atol=1e-5)
