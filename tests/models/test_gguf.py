"""Reading weights: exact dequantisation, the rotary row order, and refusal of every damaged file."""

import sys

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.models import decoder
from rl_reasoning.models.gguf import read_config, read_parameters, to_halves
from tests.models import gguf_fixture as fixture


@pytest.fixture(name="path")
def tiny_file(tmp_path):
    return fixture.write(tmp_path / "tiny.gguf")


def silu(x):
    return x / (1 + np.exp(-x))


def rms_norm(x, scale, epsilon=1e-5):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + epsilon) * scale


def turn_pairs(x, theta):
    """Rotary positions on neighbouring rows (2i, 2i + 1), as the file's row order has them. x [L, heads, h]."""
    length, _, width = x.shape
    angles = np.arange(length)[:, None] * theta ** (-np.arange(0, width, 2) / width)
    turned = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)[:, None, :]
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)


def turn_halves(x, theta):
    """Rotary positions on rows i and i + h / 2, as Hugging Face checkpoints have them. x [L, heads, h]."""
    length, _, width = x.shape
    angles = np.arange(length)[:, None] * theta ** (-np.arange(0, width, 2) / width)
    turned = (x[..., :width // 2] + 1j * x[..., width // 2:]) * np.exp(1j * angles)[:, None, :]
    return np.concatenate([turned.real, turned.imag], axis=-1)


def reference_logits(weights, tokens):
    """The model in numpy float64, straight from the file's tensors in the file's own row order."""
    w = {name.removesuffix(".weight"): fixture.stored(*value).astype(np.float64) for name, value in weights.items()}
    group = fixture.HEADS // fixture.KV_HEADS
    x = w["token_embd"][tokens]
    length = len(tokens)
    for i in range(fixture.LAYERS):
        layer = {name.split(".")[2]: value for name, value in w.items() if name.startswith(f"blk.{i}.")}
        h = rms_norm(x, layer["attn_norm"])
        q = turn_pairs((h @ layer["attn_q"].T).reshape(length, fixture.HEADS, -1), 1e5)
        k = turn_pairs((h @ layer["attn_k"].T).reshape(length, fixture.KV_HEADS, -1), 1e5).repeat(group, axis=1)
        v = (h @ layer["attn_v"].T).reshape(length, fixture.KV_HEADS, -1).repeat(group, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(fixture.HEAD_DIM)
        scores = np.exp(np.where(np.tri(length, dtype=bool), scores, -np.inf))
        mixed = np.einsum("hqk,khd->qhd", scores / scores.sum(-1, keepdims=True), v)
        x = x + mixed.reshape(length, -1) @ layer["attn_output"].T
        h = rms_norm(x, layer["ffn_norm"])
        x = x + (silu(h @ layer["ffn_gate"].T) * (h @ layer["ffn_up"].T)) @ layer["ffn_down"].T
    return rms_norm(x, w["output_norm"]) @ w.get("output", w["token_embd"]).T


def test_config_says_the_sizes_of_the_file(path):
    assert read_config(path) == decoder.DecoderConfig(
        vocabulary=len(fixture.tokens()), layers=2, width=64, heads=4, kv_heads=2, head_dim=16, mlp=96,
        rope_theta=100000.0, norm_epsilon=1e-5, tied=True, context=1024)


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_have_the_decoders_structure(tmp_path, tied):
    path = fixture.write(tmp_path / "tiny.gguf", weights=fixture.tensors(tied))
    ours = jax.eval_shape(lambda key: decoder.initialize(read_config(path), key), jax.random.key(0))
    read = read_parameters(path)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), read) == jax.tree.map(lambda a: (a.shape, a.dtype), ours)


@pytest.mark.parametrize("tied", [True, False])
def test_decoder_agrees_with_numpy_on_the_files_own_row_order(tmp_path, tied):
    """Two conventions of rotary positions, one answer: the undone permutation is the right one."""
    weights = fixture.tensors(tied)
    path = fixture.write(tmp_path / "tiny.gguf", weights=weights)
    config, parameters = read_config(path), read_parameters(path)
    tokens = np.random.default_rng(1).integers(0, config.vocabulary, 12)
    ones = jnp.ones((1, 12), jnp.int32)
    hidden = decoder.hidden_states(config, parameters, jnp.asarray(tokens[None]), jnp.arange(12)[None],
                                      decoder.branch_mask(ones, 0 * ones))
    logits = decoder.logits(config, parameters, hidden)[0]
    np.testing.assert_allclose(logits, reference_logits(weights, tokens), atol=2e-5)
    without_undo = {**weights, **{name: (np.concatenate([value[::2], value[1::2]]), kind)
                                  for name, (value, kind) in weights.items() if ".attn_q." in name}}
    assert np.abs(logits - reference_logits(without_undo, tokens)).max() > 1e-2


def test_halves_leave_attention_scores_as_they_are():
    """Scores of half-rotated rows equal those of neighbour-rotated rows for any pair of positions."""
    rng = np.random.default_rng(2)
    query, key = rng.normal(size=(2, 3 * 8, 5))
    inputs = rng.normal(size=(2, 7, 5))

    def scores(q, k):
        return np.einsum("qhd,khd->hqk", q, k)

    pairs = [turn_pairs((x @ w.T).reshape(7, 3, 8), 1e4) for x, w in zip(inputs, (query, key), strict=True)]
    halves = [turn_halves((x @ to_halves(w, 3).T).reshape(7, 3, 8), 1e4)
              for x, w in zip(inputs, (query, key), strict=True)]
    np.testing.assert_allclose(scores(*halves), scores(*pairs), atol=1e-12)
    assert to_halves(np.arange(8.0)[:, None], 1)[:, 0].tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


def half(value):
    return np.array([value], np.float16).tobytes()


BLOCKS = {
    # 16 bytes: the low nibbles are elements 0 to 15, the high ones 16 to 31
    "Q4_1": (half(0.5) + half(-1) + bytes(i | (15 - i) << 4 for i in range(16)),
             [0.5 * i - 1 for i in range(16)] + [0.5 * (15 - i) - 1 for i in range(16)]),
    "Q4_0": (half(0.25) + bytes(i | (15 - i) << 4 for i in range(16)),
             [0.25 * (i - 8) for i in range(16)] + [0.25 * (7 - i) for i in range(16)]),
    "Q8_0": (half(2) + bytes(i % 256 for i in range(-16, 16)), [2.0 * i for i in range(-16, 16)]),
    "F16": (half(1.5) * 32, [1.5] * 32),
    "BF16": (b"\x80\x3f" * 31 + b"\x49\xc0", [1.0] * 31 + [-3.140625]),
    "F32": (np.arange(32, dtype="<f4").tobytes(), list(range(32))),
}


@pytest.mark.parametrize("kind", fixture.KINDS)
def test_blocks_worked_out_by_hand(tmp_path, kind):
    block, values = BLOCKS[kind]
    weights = fixture.tensors()
    data = np.frombuffer(block * (fixture.MLP * fixture.WIDTH // 32), np.uint8).reshape(fixture.MLP, -1)
    weights["blk.1.ffn_gate.weight"] = (data, kind)
    gate = read_parameters(fixture.write(tmp_path / "tiny.gguf", weights=weights))["layers"]["mlp"]["gate"]["kernel"]
    np.testing.assert_array_equal(gate[1].T, np.tile(np.float32(values), (fixture.MLP, 2)))


def changed(name, array, kind="F32"):
    return {**fixture.tensors(), name: (array, kind)}


def without(name):
    return {key: value for key, value in fixture.tensors().items() if key != name}


NOT_FINITE = np.full((fixture.WIDTH,), np.inf, np.float32)
BAD_TENSORS = {
    "blk.1.ffn_up.weight is missing": without("blk.1.ffn_up.weight"),
    "token_embd.weight is missing": without("token_embd.weight"),
    "blk.0.attn_q.bias is not a tensor of this": changed("blk.0.attn_q.bias", np.zeros(64, np.float32)),
    r"output_norm.weight has shape \(32,\), \(64,\) expected": changed("output_norm.weight", np.ones(32, np.float32)),
    "blk.0.attn_norm.weight holds a NaN or an infinity": changed("blk.0.attn_norm.weight", NOT_FINITE),
    "blk.0.ffn_up.weight has type 6, known are F32": changed(
        "blk.0.ffn_up.weight", np.zeros((fixture.MLP, fixture.WIDTH), np.float32), "Q5_0"),
    r"blk.1.attn_norm.weight is missing.*\(and 6 more\)": {
        name: value for name, value in fixture.tensors().items() if not name.startswith("blk.1.")},
    "embedding has 9 rows for 276 tokens": changed("token_embd.weight", np.zeros((9, 64), np.float32)),
}


@pytest.mark.parametrize("message", BAD_TENSORS)
def test_a_tensor_that_does_not_fit_is_named(tmp_path, message):
    path = fixture.write(tmp_path / "bad.gguf", weights=BAD_TENSORS[message])
    with pytest.raises(ValueError, match=message) as caught:
        read_parameters(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("key", "value", "message"), [
    ("general.architecture", "qwen2", "architecture 'qwen2'; only 'llama'"),
    ("llama.block_count", 2**31, "block_count is 2147483648, and the file holds 20 tensors"),
    ("llama.block_count", 0, "block_count is 0; it must be positive"),
    ("llama.block_count", "two", "'llama.block_count' is 'two'; int expected"),
    ("llama.embedding_length", None, "'llama.embedding_length' is missing"),
    ("llama.attention.head_count_kv", 3, "kv_heads=3 must divide heads=4"),
    ("llama.rope.dimension_count", 8, "turn 8 of 16 dimensions"),
    ("llama.rope.scaling.type", "yarn", "rotary scaling 'yarn'"),
    ("llama.attention.key_length", 32, "rotary positions turn 16 of 32"),
])
def test_sizes_that_the_decoder_cannot_have(tmp_path, key, value, message):
    entries = {name: entry for name, entry in {**fixture.metadata(), key: value}.items() if entry is not None}
    path = fixture.write(tmp_path / "bad.gguf", entries)
    for read in (read_config, read_parameters):
        with pytest.raises(ValueError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_t13_a_file_cut_off_anywhere_is_refused(path):
    whole = path.read_bytes()
    for length in [*range(0, 400, 37), len(whole) // 2, len(whole) - 4096]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"tiny\.gguf.*(truncated|not a GGUF file)"):
            read_parameters(path)


def test_a_row_that_is_no_whole_number_of_blocks(tmp_path):
    """The `gguf` writer refuses to make such a file, so the type in the header is changed by hand."""
    weights = fixture.tensors()
    path = fixture.write(tmp_path / "bad.gguf", {**fixture.metadata(), "llama.feed_forward_length": 80}, {
        **weights, **{name: (array[:80] if name.endswith(("gate.weight", "up.weight")) else array[:, :80], "F32")
                      for name, (array, _) in weights.items() if ".ffn_" in name and "norm" not in name}})
    data = path.read_bytes()
    name = b"blk.0.ffn_down.weight"
    at = data.index(name) + len(name) + 4 + 16
    path.write_bytes(data[:at] + int(gguf.GGMLQuantizationType.Q8_0).to_bytes(4, "little") + data[at + 4:])
    with pytest.raises(ValueError, match=r"ffn_down\.weight has rows of 80, not a multiple of 32"):
        read_parameters(path)


def test_without_the_gguf_package_the_extra_is_named(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ImportError, match=r"pip install -e '\.\[lm\]'"):
        read_parameters(path)
