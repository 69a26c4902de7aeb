"""Folders in: number types, streaming, and twenty kinds of damage, each named, none executed, none half loaded."""

import contextlib
import dataclasses
import json
import os
import pickle
import tracemalloc

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from rl_reasoning.models import hf, hf_config
from rl_reasoning.models.architecture import Precision
from rl_reasoning.models.quantized import dequantize
from tests.models import hf_cases

LLAMA = hf_cases.CASES["llama"]
DOWN = "model.layers.1.mlp.down_proj.weight"


def changed(**values):
    """A folder whose config.json has other values."""
    return lambda folder: hf_cases.write(folder, {**LLAMA, **values}, hf_cases.weights(LLAMA))


def tensors(change):
    """A folder whose tensors went through `change`."""
    def make(folder):
        found = hf_cases.weights(LLAMA)
        change(found)
        return hf_cases.write(folder, LLAMA, found)

    return make


def bytes_changed(change, name="model.safetensors", shards=1):
    """A folder in which one file's bytes went through `change`."""
    def make(folder):
        hf_cases.write(folder, LLAMA, shards=shards)
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return make


def index_changed(change):
    def bytes_(data):
        content = json.loads(data)
        change(content["weight_map"])
        return json.dumps(content).encode()

    return bytes_changed(bytes_, "model.safetensors.index.json", shards=2)


class Canary:
    def __reduce__(self):
        return os.mkdir, ("canary",)


def pickled(folder):
    hf_cases.write(folder, LLAMA)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Canary()))


def pickled_under_another_name(folder):
    hf_cases.write(folder, LLAMA)
    (folder / "model.safetensors").write_bytes(pickle.dumps(Canary()))


def not_finite(found):
    found[DOWN][3, 5] = np.nan


def integers(found):
    found[DOWN] = found[DOWN].astype(np.int8)


def without_shard(folder):
    hf_cases.write(folder, LLAMA, shards=2)
    (folder / "model-00002-of-00002.safetensors").unlink()


def tied_with_another_head(folder):
    hf_cases.write(folder, {**LLAMA, "tie_word_embeddings": True}, hf_cases.weights(LLAMA))


FIRST = "model-00001-of-00002.safetensors"
BAD = {
    "no config": (lambda folder: folder.mkdir(), r"config\.json is not there"),
    "config is no JSON": (bytes_changed(lambda data: data[:50], "config.json"), r"config\.json is no readable JSON"),
    "config is a list": (bytes_changed(lambda data: b"[1]", "config.json"), r"config\.json holds a list"),
    "config is deep": (bytes_changed(lambda data: b"[" * 10**6, "config.json"), r"config\.json is no readable JSON"),
    "unknown architecture": (changed(architectures=["GPT2LMHeadModel"]), r"architectures is .*GPT2.*LlamaForCausalLM"),
    "size of another type": (changed(hidden_size="32"), r"hidden_size is '32'; int expected"),
    "size of zero": (changed(num_attention_heads=0), r"num_attention_heads is '0'; 1 to"),
    "size missing": (changed(intermediate_size=None), r"intermediate_size is missing"),
    "a billion layers": (changed(num_hidden_layers=10**9), r"num_hidden_layers is 1000000000, and the files hold 21"),
    "heads that do not divide": (changed(num_key_value_heads=3), r"config\.json: kv_heads=3 must divide"),
    "unknown scaling": (changed(rope_scaling={"rope_type": "dynamic", "factor": 2.0}), r"rope_scaling is 'dynamic'"),
    "scaling without factor": (changed(rope_scaling={"type": "linear"}), r"rope_scaling\.factor is 'None'"),
    "another activation": (changed(hidden_act="gelu"), r"hidden_act is 'gelu'; the decoder has only 'silu'"),
    "quantised by others": (changed(quantization_config={"bits": 4}), r"quantization_config is"),
    "no weights": (lambda folder: hf_cases.write(folder, LLAMA).joinpath("model.safetensors").unlink(),
                   r"holds neither model\.safetensors nor"),
    "pickle": (pickled, r"pytorch_model\.bin.*pickled weights can run code and are never read"),
    "pickle under another name": (pickled_under_another_name, r"model\.safetensors is cut off, damaged or no"),
    "cut off": (bytes_changed(lambda data: data[:-7]), r"model\.safetensors is cut off"),
    "empty": (bytes_changed(lambda data: b""), r"model\.safetensors is cut off"),
    "header of 1 TiB": (bytes_changed(lambda data: (2**40).to_bytes(8, "little") + data[8:]),
                        r"model\.safetensors is cut"),
    "shard missing": (without_shard, r"model-00002-of-00002\.safetensors is not there; .* says that it holds"),
    "shard cut off": (bytes_changed(lambda data: data[:-7], FIRST, 2), r"model-00001-of-00002\.safetensors is cut off"),
    "index is no table": (bytes_changed(lambda data: b'{"weight_map": 3}', "model.safetensors.index.json", 2),
                          r"index\.json: weight_map must give"),
    "index leads out": (index_changed(lambda table: table.update({DOWN: "../model.safetensors"})),
                        r"index\.json: .*down_proj.* is in '\.\./model\.safetensors'"),
    "index names the wrong shard": (index_changed(lambda table: table.update(
        {DOWN: next(file for file in table.values() if file != table[DOWN])})),
        r"safetensors: .*down_proj.* is not in it"),
    "index forgets a tensor": (index_changed(lambda table: table.pop(DOWN)), r"down_proj\.weight is not listed in"),
    "tensor missing": (tensors(lambda found: found.pop(DOWN)),
                       r"tensor model\.layers\.1\.mlp\.down_proj\.weight is missing"),
    "head missing": (tensors(lambda found: found.pop("lm_head.weight")), r"tensor lm_head\.weight is missing"),
    "tensor extra": (tensors(lambda found: found.update({"model.extra": np.zeros(3, np.float32)})),
                     r"model\.safetensors: model\.extra is not a tensor of this"),
    "tensor of another shape": (tensors(lambda found: found.update({DOWN: np.zeros((32, 47), np.float32)})),
                                r"safetensors: .*down_proj\.weight has shape \(32, 47\); the config says \(32, 48\)"),
    "not a number": (tensors(not_finite), r"model\.safetensors: .*down_proj\.weight holds a NaN"),
    "integers": (tensors(integers), r"model\.safetensors: .*down_proj\.weight has type I8"),
    "tied, and the head differs": (tied_with_another_head, r"lm_head\.weight differs from model\.embed_tokens"),
}


@pytest.mark.parametrize("name", BAD)
def test_t13_t16_a_broken_folder_is_named_and_nothing_of_it_runs(tmp_path, monkeypatch, name):
    make, message = BAD[name]
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "model")
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        hf.read_parameters(tmp_path / "model")
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert not (tmp_path / "canary").exists()


def test_what_every_checkpoint_may_carry_is_accepted(tmp_path):
    """A head that equals the tied embedding, and the rotary frequencies of old files."""
    config = {**LLAMA, "tie_word_embeddings": True}
    found = hf_cases.weights(config)
    found["lm_head.weight"] = found["model.embed_tokens.weight"]
    found["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)
    assert "head" not in hf.read_parameters(hf_cases.write(tmp_path, config, found))


@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
def test_weights_arrive_in_the_type_that_the_config_asks_for(tmp_path, stored):
    folder = hf_cases.write(tmp_path, LLAMA, dtype=stored)
    given = hf_cases.weights(LLAMA)[DOWN].astype(ml_dtypes.bfloat16 if stored == "bfloat16" else stored).T
    config = hf_config.read_config(folder)
    for parameters in ("float32", "bfloat16"):
        typed = dataclasses.replace(config, precision=Precision(parameters))
        read = hf.read_parameters(folder, typed)
        assert {leaf.dtype for leaf in jax.tree.leaves(read)} == {jnp.dtype(parameters)}
        np.testing.assert_array_equal(read["layers"]["mlp"]["down"]["kernel"][1], given.astype(jnp.dtype(parameters)))


def test_int8_weights_are_within_half_a_step(tmp_path):
    folder = hf_cases.write(tmp_path, LLAMA)
    read = hf.read_parameters(folder, dataclasses.replace(hf_config.read_config(folder), precision=Precision("int8")))
    down = read["layers"]["mlp"]["down"]
    assert down["kernel"].dtype == jnp.int8
    error = np.abs(dequantize(down["kernel"], down["scale"])[1] - hf_cases.weights(LLAMA)[DOWN].T)
    assert (error <= np.asarray(down["scale"])[1] * 0.5001).all()
    assert read["embed"]["embedding"].dtype == jnp.float32


def test_peak_host_memory_is_the_model_and_one_tensor(tmp_path):
    """Float32 files into bfloat16: never more than the model in bfloat16 and a few tensors of the file."""
    sizes = {**LLAMA, "num_hidden_layers": 12, "hidden_size": 256, "intermediate_size": 512, "head_dim": 64}
    folder = hf_cases.write(tmp_path, sizes, shards=4)
    config = dataclasses.replace(hf_config.read_config(folder), precision=Precision("bfloat16"))
    model = sum(np.prod(shape) * 2 for shape in hf_cases.shapes(sizes).values())
    largest = max(np.prod(shape) * 4 for shape in hf_cases.shapes(sizes).values())
    hf.read_parameters(folder, config)  # what is imported and traced once does not count
    with traced() as peak:
        parameters = hf.read_parameters(folder, config)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(parameters)) == model
    assert peak() < model + 2 * largest
    assert peak() < model * 1.2


@contextlib.contextmanager
def traced():
    """Peak bytes that Python and numpy held, above those at the start; numpy memory that a device shares counts."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    peaks = []
    try:
        yield lambda: peaks[0]
    finally:
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
        tracemalloc.stop()


def test_where_weights_go_is_the_callers_choice(tmp_path):
    seen = {}

    def place(path, array):
        seen[path] = array.shape
        return jax.device_put(array)

    hf.read_parameters(hf_cases.write(tmp_path, LLAMA), place=place)
    assert seen["layers", "attention", "query", "kernel"] == (2, 32, 32)
    assert seen["embed", "embedding"] == (24, 32)


@pytest.mark.parametrize("name", hf_cases.CASES)
def test_config_comes_back_from_its_own_export(tmp_path, name):
    config = hf_config.read_config(hf_cases.write(tmp_path / "a", hf_cases.CASES[name]))
    content = hf_config.to_hf(config, "float32")
    assert content["architectures"] == hf_cases.CASES[name]["architectures"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert hf_config.read_config(tmp_path) == config


def test_a_decoder_that_no_family_has_is_not_exported():
    with pytest.raises(ValueError, match="no Hugging Face family has norms='peri'"):
        hf_config.to_hf(hf_cases.norms_config("peri"), "float32")


def test_newer_configs_name_the_rotary_settings_otherwise(tmp_path):
    older = hf_cases.CASES["llama_rope_llama3"]
    newer = {name: value for name, value in older.items() if name not in ("rope_theta", "rope_scaling")}
    newer["rope_parameters"] = older["rope_scaling"] | {"rope_theta": older["rope_theta"]}
    a, b = (hf_config.read_config(hf_cases.write(tmp_path / str(i), one)) for i, one in enumerate((older, newer)))
    assert a == b
