"""Splash attention, interpreted, against our own attention: rows of shared prompts, padding, grouped heads, a mesh."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.config import Experiment, Mesh
from rl_reasoning.edge import ConfigError
from rl_reasoning.loop.setup import build
from rl_reasoning.models import splash
from rl_reasoning.models.attention import attention
from rl_reasoning.models.decoder import DecoderConfig, branch_mask, hidden_states, initialize, row_mask
from rl_reasoning.models.splash import blocks, splash_attention
from rl_reasoning.parallel import make_layout
from tests.compiling import COMPILE_FAST

KEYS, GROUP, WIDTH = 2, 2, 8


def packed(rows, length):
    """Segments and branches [B, L] of rows of (prompt, answer, answer, ...) lengths; the rest is padding."""
    segments, branches = np.zeros((2, len(rows), length), np.int32)
    for row, pieces in enumerate(rows):
        start = 0
        for segment, sizes in enumerate(pieces, 1):
            for branch, size in enumerate(sizes):
                segments[row, start:start + size], branches[row, start:start + size] = segment, branch
                start += size
        assert start <= length
    return jnp.asarray(segments), jnp.asarray(branches)


ROWS = ([(40, 30, 60, 1), (150,), (1, 5)],  # an answer over two blocks; a segment without answers
        [(270, 20, 10)],  # a prompt of three blocks
        [(10, 10, 120, 130), (3, 3, 3, 3, 3)],  # answers that see a prompt two blocks away
        [])  # nothing but padding
LENGTH = 300  # three blocks of 128, of which the last is cut


def inputs(rows, length, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = (rows, length, KEYS, GROUP, WIDTH), (rows, KEYS, WIDTH, length), (rows, KEYS, length, WIDTH)
    drawn = [2 * jax.random.normal(key, shape, dtype) for key, shape in zip(keys[:3], shapes, strict=True)]
    return drawn, jax.random.normal(keys[3], shapes[0])


@pytest.fixture
def short_blocks(monkeypatch):
    monkeypatch.setattr(splash, "BLOCK", 128)


def vjp_of(way, arrays, segments):
    """What positions that are none of padding give, and what is pulled at queries, keys and values."""
    _, pull = inputs(*segments.shape)
    real = (segments > 0)[:, :, None, None, None]
    mixed, pulls = jax.jit(lambda *a: (lambda found, back: (found, back(jnp.where(real, pull, 0))))(
        *jax.vjp(way, *a)), compiler_options=COMPILE_FAST)(*arrays)
    return [np.asarray(jnp.where(real, mixed, 0)), *pulls]


@pytest.mark.usefixtures("short_blocks")
def test_equals_our_own_attention_forward_and_backward():
    segments, branches = packed(ROWS, LENGTH)
    arrays, _ = inputs(len(ROWS), LENGTH)
    seen, mask = blocks(segments, branches), branch_mask(segments, branches)
    found = vjp_of(lambda *a: splash_attention(*a, seen, interpret=True), arrays, segments)
    for one, other in zip(found, vjp_of(lambda *a: attention(*a, mask), arrays, segments), strict=True):
        np.testing.assert_allclose(one, other, atol=3e-5)


@pytest.mark.usefixtures("short_blocks")
def test_blocks_are_those_that_hold_something_seen_and_each_is_named_once():
    """Also in a row whose prompt and answers share a block with other segments: the steps that there are suffice."""
    rows = [*ROWS, [(129, 100)], [(126, 1, 1, 129), (5, 20)], [(1, 127, 1, 127, 1), (20, 10)], [(100, 1), (100, 90)]]
    segments, branches = packed(rows, LENGTH)
    seen, count = blocks(segments, branches), 3
    padded, pieces = (np.pad(x, ((0, 0), (0, 3 * 128 - LENGTH))) for x in (segments, branches))
    mask = np.array(branch_mask(padded, pieces)) | np.eye(3 * 128, dtype=bool) & (padded == 0)[:, None]
    prompt = ((pieces == 0) & (padded > 0))[:, None]
    both = np.concatenate([mask & prompt, mask & ~prompt], axis=2).reshape(len(rows), count, 128, 2 * count, 128)
    expected = both.any(axis=(2, 4))
    for listed, wanted in ((seen.by_query, expected), (seen.by_key.swapaxes(3, 4), expected.swapaxes(1, 2))):
        places, real = np.asarray(listed[:, :, 0]).swapaxes(0, 1)
        named = [[sorted(at[on > 0]) for at, on in zip(*pair, strict=True)] for pair in zip(places, real, strict=True)]
        assert named == [[list(np.flatnonzero(each)) for each in row] for row in wanted]
        assert (places < wanted.shape[2]).all()


def test_a_decoder_with_it_on_eight_devices_gives_the_loss_and_gradient_of_one_without():
    """Rows over data and fsdp, heads over tensor; rows that are no multiple of a block."""
    config = DecoderConfig(vocabulary=24, layers=2, width=16, heads=4, kv_heads=2, head_dim=6, mlp=24)
    parameters = initialize(config, jax.random.key(0))
    segments, branches = packed([[(5, 6, 7), (3, 4)], [(9, 11)], [(1, 1)], [(12, 3, 4, 5)]], 30)
    tokens = jax.random.randint(jax.random.key(1), segments.shape, 0, 24)
    positions = jnp.broadcast_to(jnp.arange(30), tokens.shape)

    def loss(parameters, tokens, config):
        mask = row_mask(config, segments, branches)
        hidden = hidden_states(config, parameters, tokens, positions, mask, remat="none")
        return (jnp.square(hidden) * jnp.arange(16) * (segments > 0)[..., None]).sum()

    def of(config, parameters, tokens):
        gradient = jax.jit(jax.value_and_grad(loss), static_argnums=2, compiler_options=COMPILE_FAST)
        return gradient(parameters, tokens, config)

    layout = make_layout(Mesh(data=2, fsdp=2, tensor=2), config.sizes)
    with layout():
        found, gradient = of(dataclasses.replace(config, attention="splash", interpret=True), layout.place(parameters),
                             jax.device_put(tokens, layout.rows()))
    expected, wanted = of(config, parameters, tokens)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * float(jnp.abs(b).max())), gradient, wanted)


def test_the_longest_row_has_room_in_the_number_that_a_query_gives_the_mask():
    segments = jnp.ones((1, 2**16), jnp.int32)
    branches = (jnp.arange(2**16) >= 2**16 - 3)[None].astype(jnp.int32)
    query = blocks(segments, branches).own[0, -1]
    keys = jnp.array([0, 2**16 - 1, 2**16, 2**17 - 4, 2**17 - 3, 2**17 - 1])
    assert splash._Mask(2**16)(query, keys).tolist() == [True, True, False, False, True, True]


def test_what_it_cannot_do_is_refused_in_words():
    with pytest.raises(ValueError, match="attention='splash' cannot do the windows of this model's layers"):
        DecoderConfig(23, 2, 16, 4, 2, 6, 24, windows=(0, 8), attention="splash")
    with pytest.raises(ValueError, match=r"rows of 65537 tokens: splash attention takes at most 65536"):
        blocks(jnp.ones((1, 65537)), jnp.ones((1, 65537)))
    with pytest.raises(ValueError, match=r"attention='flash' must be one of xla, splash"):
        DecoderConfig(23, 2, 16, 4, 2, 6, 24, attention="flash")
    model = dataclasses.replace(Experiment().model, attention="splash")
    with pytest.raises(ConfigError, match="is a kernel for TPUs only, and the devices here are cpu: give xla or auto"):
        build(dataclasses.replace(Experiment(), model=model))
