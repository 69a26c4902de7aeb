"""Small Hugging Face folders whose weights come from a formula, so that any program can make the same ones.

`scripts/parity_transformers.py` runs the cases through transformers and writes `goldens_transformers.json`.
"""

import json
import zlib
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from rl_reasoning.models import hf
from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.models.weights import assemble

TOKENS = [[3, 17, 1, 0, 22, 9, 9, 4, 13, 20, 7, 11]]

SIZES = {"vocab_size": 24, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
          "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 48, "rms_norm_eps": 1e-5, "hidden_act": "silu",
          "max_position_embeddings": 64, "rope_theta": 10000.0, "torch_dtype": "float32"}


def _case(architecture: str, model_type: str, **changes) -> dict:
    return {"architectures": [architecture], "model_type": model_type, "tie_word_embeddings": False, **SIZES, **changes}


_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
_LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 32}

# name -> config.json
CASES = {
    "llama": _case("LlamaForCausalLM", "llama"),
    "llama_tied_bias": _case("LlamaForCausalLM", "llama", attention_bias=True, tie_word_embeddings=True),
    "llama_rope_llama3": _case("LlamaForCausalLM", "llama", rope_theta=500.0, rope_scaling=_LLAMA3),
    "llama_rope_linear": _case("LlamaForCausalLM", "llama", rope_scaling={"type": "linear", "factor": 2.5}),
    "qwen2": _case("Qwen2ForCausalLM", "qwen2", tie_word_embeddings=True),
    "qwen2_rope_yarn": _case("Qwen2ForCausalLM", "qwen2", rope_scaling=_YARN),
    "qwen2_some_windows": _case("Qwen2ForCausalLM", "qwen2", num_hidden_layers=3, use_sliding_window=True,
                                sliding_window=4, max_window_layers=1),
    "qwen3": _case("Qwen3ForCausalLM", "qwen3", head_dim=12, tie_word_embeddings=True),
    "mistral_window": _case("MistralForCausalLM", "mistral", sliding_window=5),
}


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Float32 values from a hash of the tensor's name and their place: uniform in +-1.5 / sqrt(last axis), 1 +- 0.5
    for norms, +-0.5 for biases."""
    place = np.arange(np.prod(shape), dtype=np.uint64)
    x = place * np.uint64(0x9E3779B97F4A7C15) + np.uint64(zlib.crc32(name.encode()))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    unit = (x >> np.uint64(40)).astype(np.float64) / 2**24 - 0.5
    values = 1 + unit if "norm" in name else unit if name.endswith("bias") else 3 * unit / np.sqrt(shape[-1])
    return values.astype(np.float32).reshape(shape)


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Every tensor of the config's model."""
    width, mlp, h = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    query, key, family = config["num_attention_heads"] * h, config["num_key_value_heads"] * h, config["model_type"]
    layer = {"input_layernorm": (width,), "post_attention_layernorm": (width,), "self_attn.q_proj": (query, width),
             "self_attn.k_proj": (key, width), "self_attn.v_proj": (key, width), "self_attn.o_proj": (width, query),
             "mlp.gate_proj": (mlp, width), "mlp.up_proj": (mlp, width), "mlp.down_proj": (width, mlp)}
    if family == "qwen3":
        layer |= {"self_attn.q_norm": (h,), "self_attn.k_norm": (h,)}
    names = {f"{name}.weight": shape for name, shape in layer.items()}
    biased = "qkv" if family == "qwen2" else "qkvo" if config.get("attention_bias") else ""
    names |= {f"self_attn.{part}_proj.bias": layer[f"self_attn.{part}_proj"][:1] for part in biased}
    found = {"model.embed_tokens.weight": (config["vocab_size"], width), "model.norm.weight": (width,)}
    if not config["tie_word_embeddings"]:
        found["lm_head.weight"] = (config["vocab_size"], width)
    return found | {f"model.layers.{i}.{name}": shape for i in range(config["num_hidden_layers"])
                    for name, shape in names.items()}


def weights(config: dict) -> dict[str, np.ndarray]:
    return {name: tensor(name, shape) for name, shape in shapes(config).items()}


def write(folder: Path, config: dict, tensors: dict[str, np.ndarray] | None = None, shards: int = 1,
          dtype: str = "float32") -> Path:
    """Writes config.json and the weights, in one file or in shards with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    tensors = {name: values.astype(kind) if values.dtype == np.float32 else values
               for name, values in (tensors or weights(config)).items()}
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    files = [f"model-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)]
    home = {name: files[i % shards] for i, name in enumerate(tensors)}
    for file in files:
        save_file({name: tensors[name] for name in tensors if home[name] == file}, folder / file)
    index = {"metadata": {"total_size": sum(values.nbytes for values in tensors.values())}, "weight_map": home}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def gemma_name(name: str) -> str:
    """The name in `CASES["llama"]` of a Gemma 2 tensor; its output norms keep names of their own."""
    if "pre_feedforward_layernorm" in name:
        return name.replace("pre_feedforward_layernorm", "post_attention_layernorm")
    return name.replace("post_attention_layernorm", "attention_output_norm")


def norms_config(placement: str) -> DecoderConfig:
    """The decoder of `CASES["llama"]` with its norms in another place."""
    c = CASES["llama"]
    return DecoderConfig(
        vocabulary=c["vocab_size"], layers=c["num_hidden_layers"], width=c["hidden_size"], norms=placement, tied=False,
        heads=c["num_attention_heads"], kv_heads=c["num_key_value_heads"], head_dim=c["head_dim"],
        mlp=c["intermediate_size"])


def norms_parameters(config: DecoderConfig) -> dict:
    """Its parameters; Gemma 2's names stand for the output norms."""
    def read(path: tuple[str, ...], layer: int) -> np.ndarray:
        special = {"attention_output_norm": "attention_output_norm", "mlp_output_norm": "post_feedforward_layernorm"}
        if len(path) == 3 and path[1] in special:
            return tensor(f"model.layers.{layer}.{special[path[1]]}.weight", (config.width,))
        name = hf.tensor_name(path, layer)
        values = tensor(name, shapes(CASES["llama"])[name])
        return values.T if path[-1] == "kernel" else values

    return assemble(config, read)
