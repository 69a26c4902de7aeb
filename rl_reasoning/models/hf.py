"""Weights of Hugging Face folders: names, reading into a decoder's parameters, and the way back.

The folder is checked as a whole before a weight is read: a missing, extra, mis-shaped or unreadable tensor is an
error that names file and tensor. Non-finite values are found as tensors stream; nothing is returned then.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rl_reasoning.models import lora, weights
from rl_reasoning.models.architecture import LINEAR, DecoderConfig
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.models.hf_config import read_config
from rl_reasoning.models.safetensors_folder import Shards

_LAYER = {
    "attention.query": "self_attn.q_proj", "attention.key": "self_attn.k_proj", "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj", "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm", "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj", "attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
_OTHERS = {"embed": "model.embed_tokens", "final_norm": "model.norm", "head": "lm_head"}
# Old checkpoints carry the rotary frequencies, which the config gives already.
_DERIVED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq|model\.rotary_emb\.inv_freq")


def read_parameters(folder: str | Path, config: DecoderConfig | None = None,
                    place: weights.Place | None = None) -> Parameters:
    """Parameters of the model in a folder, without adapters, in the types of `config.precision`.

    Args:
      config: what `read_config` gives, with other types perhaps; None reads it.
      place: see `weights.assemble`.

    Raises:
      FileNotFoundError, ValueError, ImportError: see `read_config` and `Shards`; or the tensors are not the config's.
    """
    folder = Path(folder)
    config, shards = config or read_config(folder), Shards(folder)
    _check(folder, config, shards)

    def read(path: weights.Path, layer: int) -> np.ndarray:
        values = shards.read(tensor_name(path, layer))
        return values.T if path[-1] == "kernel" else values

    parameters = weights.assemble(config, read, place)
    if config.tied and "lm_head.weight" in shards.shapes:
        _check_tied(folder, shards)
    return parameters


def shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of the folder by name, [out, in] for linear maps: embedding, layers, final norm, head."""
    return {tensor_name(path, layer): shape[::-1] if path[-1] == "kernel" else shape
            for path, layer, shape in _order(config)}


def tensors(config: DecoderConfig, parameters: Parameters, dtype: str) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor in the order of `shapes`, one at a time: (name, array).

    Args:
      parameters: of the decoder without adapters and int8 (`lora.merge`).
      dtype: "float32" or "bfloat16".
    """
    for path, layer, _ in _order(config):
        leaf: Any = parameters
        for name in path:
            leaf = leaf[name]
        values = np.asarray(leaf[layer] if path[0] == "layers" else leaf)
        values = (values.T if path[-1] == "kernel" else values).astype(weights.TYPES[dtype])
        yield tensor_name(path, layer), np.ascontiguousarray(values)


def adapters(config: DecoderConfig, parameters: Parameters) -> dict[str, np.ndarray]:
    """The adapters' float32 tensors under the names that PEFT gives them: lora_A [rank, in], lora_B [out, rank]."""
    trained, _ = lora.split(config, parameters)
    found = {}
    for name in _adapted(config):
        part, ours = name.split(".")
        for layer in range(config.layers):
            prefix = f"base_model.model.model.layers.{layer}.{_LAYER[name]}"
            for leaf, theirs in (("lora_a", "lora_A"), ("lora_b", "lora_B")):
                values = np.asarray(trained["layers"][part][ours][leaf][layer])
                found[f"{prefix}.{theirs}.weight"] = np.ascontiguousarray(values.T)
    return found


def adapter_modules(config: DecoderConfig) -> list[str]:
    """Names of the modules with adapters, as PEFT's target_modules lists them: "q_proj", ..."""
    return [_LAYER[name].split(".")[-1] for name in _adapted(config)]


def _adapted(config: DecoderConfig) -> Iterator[str]:
    """The linear maps that have adapters."""
    return filter(config.lora.covers, LINEAR) if config.lora else iter(())


def tensor_name(path: weights.Path, layer: int) -> str:
    """The name in a folder of the weight at a path of ours."""
    suffix = "bias" if path[-1] == "bias" else "weight"
    if path[0] == "layers":
        return f"model.layers.{layer}.{_LAYER['.'.join(path[1:-1])]}.{suffix}"
    return f"{_OTHERS[path[0]]}.{suffix}"


def _order(config: DecoderConfig) -> Iterator[tuple[weights.Path, int, tuple[int, ...]]]:
    """(path, layer, shape of ours) of every tensor."""
    found = list(weights.expected(config))
    yield from ((path, 0, shape) for path, shape in found if path[0] == "embed")
    yield from ((path, layer, shape) for layer in range(config.layers) for path, shape in found if path[0] == "layers")
    yield from ((path, 0, shape) for path, shape in found if path[0] not in ("embed", "layers"))


def _check(folder: Path, config: DecoderConfig, shards: Shards) -> None:
    """Raises ValueError unless the files hold exactly the config's tensors."""
    if config.layers > len(shards.shapes):
        raise ValueError(f"{folder / 'config.json'}: num_hidden_layers is {config.layers}, and the files hold "
                         f"{len(shards.shapes)} tensors")
    wanted = shapes(config)
    optional = {"lm_head.weight": (config.vocabulary, config.width)} if config.tied else {}
    problems = [f"{folder}: tensor {name} is missing" for name in wanted if name not in shards.shapes]
    for name, shape in shards.shapes.items():
        expected = (wanted | optional).get(name)
        if expected is None and not _DERIVED.fullmatch(name):
            problems.append(f"{shards.home(name)}: {name} is not a tensor of this architecture")
        elif expected is not None and expected != shape:
            problems.append(f"{shards.home(name)}: {name} has shape {shape}; the config says {expected}")
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise ValueError("; ".join(problems[:3]) + more)


def _check_tied(folder: Path, shards: Shards) -> None:
    if not np.array_equal(shards.read("lm_head.weight"), shards.read("model.embed_tokens.weight")):
        raise ValueError(f"{folder}: tie_word_embeddings is true, and lm_head.weight differs from "
                         "model.embed_tokens.weight; set it to false in config.json")
