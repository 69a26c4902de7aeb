"""Folders out: what comes back is what was written, whole or not at all."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from rl_reasoning import export
from rl_reasoning.models import hf, hf_config, lora
from rl_reasoning.models.architecture import LoRA, Precision
from rl_reasoning.tokenizers.byte_bpe import ByteBPE
from rl_reasoning.tokenizers.folder import read_tokenizer
from rl_reasoning.tokenizers.symbols import SymbolTokenizer
from rl_reasoning.types import Message
from tests.models import gguf_fixture, hf_cases
from tests.tokenizers import folder_fixture


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3"])
def test_weights_come_back_bit_for_bit(tmp_path, name):
    source = hf_cases.write(tmp_path / "in", hf_cases.CASES[name])
    config = hf_config.read_config(source)
    parameters = hf.read_parameters(source, config)
    export.write_weights(tmp_path / "out", config, parameters, hf_config.to_hf(config, "float32"), shard_bytes=20_000)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert files == [f"model-{i + 1:05d}-of-{len(files):05d}.safetensors" for i in range(len(files))]
    assert len(files) > 2
    assert all((tmp_path / "out" / file).stat().st_size < 25_000 for file in files)
    again = hf_config.read_config(tmp_path / "out")
    assert again == config
    jax.tree.map(np.testing.assert_array_equal, hf.read_parameters(tmp_path / "out", again), parameters)
    written = {name: value for file in files for name, value in load_file(tmp_path / "out" / file).items()}
    jax.tree.map(np.testing.assert_array_equal, written, hf_cases.weights(hf_cases.CASES[name]))


def test_one_file_needs_no_index_and_bf16_is_half_the_size(tmp_path):
    source = hf_cases.write(tmp_path / "in", hf_cases.CASES["llama"])
    config = hf_config.read_config(source)
    export.write_weights(tmp_path / "out", config, hf.read_parameters(source, config),
                         hf_config.to_hf(config, "bfloat16"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "model.safetensors"]
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (source, tmp_path / "out")]
    assert 0.45 < sizes[1] / sizes[0] < 0.6


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_adapters_are_merged_or_written_alone(tmp_path, kind):
    source = hf_cases.write(tmp_path / "in", hf_cases.CASES["llama"])
    config = dataclasses.replace(hf_config.read_config(source), precision=Precision(kind),
                                 lora=LoRA(2, 8.0, ("attention.query", "mlp.down")))
    parameters = lora.prepare(config, hf.read_parameters(source, config), jax.random.key(0))
    trained, frozen = lora.split(config, parameters)
    parameters = lora.join(jax.tree.map(lambda leaf: leaf + 0.1, trained), frozen)
    export.write_weights(tmp_path / "merged", config, parameters, hf_config.to_hf(config, "float32"))
    export.write_adapters(tmp_path / "alone", config, parameters, "the base")
    alone = load_file(tmp_path / "alone" / "adapter_model.safetensors")
    settings = json.loads((tmp_path / "alone" / "adapter_config.json").read_text())
    assert settings["target_modules"] == ["q_proj", "down_proj"]
    assert (settings["r"], settings["lora_alpha"], settings["base_model_name_or_path"]) == (2, 8.0, "the base")
    name = "model.layers.1.mlp.down_proj"
    a, b = (alone[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
    assert (a.shape, b.shape) == ((2, 48), (32, 2))
    base = np.asarray(lora.merge(config, join_zero(config, parameters))["layers"]["mlp"]["down"]["kernel"])[1].T
    merged = load_file(tmp_path / "merged" / "model.safetensors")[f"{name}.weight"]
    np.testing.assert_allclose(merged, base + 4.0 * b @ a, atol=1e-6)


def join_zero(config, parameters):
    trained, frozen = lora.split(config, parameters)
    return lora.join(jax.tree.map(lambda leaf: leaf * 0, trained), frozen)


def test_without_adapters_there_is_nothing_to_write_alone(tmp_path):
    with pytest.raises(ValueError, match="trained without adapters"):
        export.write_adapters(tmp_path, hf_cases.norms_config("pre"), {}, "base")


def test_t16_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(FileNotFoundError), export.whole_folder(tmp_path / "out") as folder:
        (folder / "half").touch() or (folder / "missing").read_bytes()
    assert list(tmp_path.iterdir()) == []
    with export.whole_folder(tmp_path / "out") as folder:
        (folder / "all").touch()
        assert not (tmp_path / "out").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["all"]
    with pytest.raises(FileExistsError, match="is there already"), export.whole_folder(tmp_path / "out"):
        pass


def test_a_folders_tokenizer_is_copied(tmp_path):
    source = folder_fixture.write(tmp_path / "in")
    export.write_tokenizer(tmp_path / "out", read_tokenizer(source), source)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"] == read_tokenizer(
        source).eos_id


def test_a_gguf_tokenizer_becomes_a_folder_with_the_same_ids(tmp_path):
    source = gguf_fixture.write(tmp_path / "tiny.gguf")
    ours = ByteBPE.from_gguf(source)
    export.write_tokenizer(tmp_path / "out", ours, source)
    again = read_tokenizer(tmp_path / "out")
    assert (again.vocabulary_size, again.eos_id) == (ours.vocabulary_size, ours.eos_id)
    for text in ("hello world 12", "日本 <|im_end|> é"):
        assert again.encode(text) == ours.encode(text)
    chat = (Message("user", "12 <|im_end|>"),)
    assert again.encode_prompt(chat) == ours.encode_prompt(chat)


def test_a_symbol_language_becomes_a_folder_with_the_same_ids(tmp_path):
    ours = SymbolTokenizer(["1", "2", "+", "="])
    export.write_tokenizer(tmp_path / "out", ours, None)
    again = read_tokenizer(tmp_path / "out")
    assert (again.vocabulary_size, again.eos_id) == (5, 4)
    assert again.encode("1 + 2 =") == ours.encode("1 + 2 =") == [0, 2, 1, 3]
    assert again.decode([0, 2, 1, 4]) == "1 + 2"
