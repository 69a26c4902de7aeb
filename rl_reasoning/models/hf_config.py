"""config.json of Hugging Face folders: the families Llama, Qwen2, Qwen3 (dense) and Mistral, in and out.

Whatever a config asks for that the decoder has not is an error that names it; nothing is skipped.
"""

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

from rl_reasoning.json_file import read_json
from rl_reasoning.models.architecture import SCALINGS, DecoderConfig, RopeScaling
from rl_reasoning.models.rotary import yarn_magnitude

FAMILIES = {"LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3",
            "MistralForCausalLM": "mistral"}
_LARGEST = 2**31


def read_config(folder: str | Path) -> DecoderConfig:
    """The decoder that a folder's config.json describes.

    Raises:
      FileNotFoundError: there is no config.json.
      ValueError: no JSON object; another architecture; a size that is missing or impossible; a feature that the
        decoder has not. One line, names the file and the key.
    """
    source = _Source(Path(folder) / "config.json")
    family = _family(source)
    _refuse_others(source)
    heads, width, layers = (source.size(key) for key in
                            ("num_attention_heads", "hidden_size", "num_hidden_layers"))
    biased = source.get("attention_bias", bool, False)
    head_dim = source.size("head_dim", 128 if family == "qwen3" else max(width // heads, 1))
    try:
        return DecoderConfig(
            vocabulary=source.size("vocab_size"), layers=layers, width=width, heads=heads,
            kv_heads=source.size("num_key_value_heads", 8 if family == "mistral" else heads), head_dim=head_dim,
            mlp=source.size("intermediate_size"), rope_theta=_theta(source),
            norm_epsilon=source.number("rms_norm_eps", 1e-6), tied=source.get("tie_word_embeddings", bool, False),
            qkv_bias=biased or family == "qwen2", output_bias=biased and family != "qwen2",
            qk_norm=family == "qwen3", rope_scaling=_scaling(source), windows=_windows(source, family, layers),
            context=source.size("max_position_embeddings", 32_768))
    except ValueError as error:
        raise ValueError(str(error) if str(source.path) in str(error) else f"{source.path}: {error}") from error


def to_hf(config: DecoderConfig, dtype: str) -> dict[str, Any]:
    """config.json for a decoder, in the family that has its features.

    Args: dtype: type of the weights that go with it, "float32" or "bfloat16".
    Raises ValueError when no family has them.
    """
    architecture = _architecture(config)
    content = {
        "architectures": [architecture], "model_type": FAMILIES[architecture], "vocab_size": config.vocabulary,
        "num_hidden_layers": config.layers, "hidden_size": config.width, "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads, "head_dim": config.head_dim, "intermediate_size": config.mlp,
        "hidden_act": "silu", "rope_theta": config.rope_theta, "rope_scaling": _scaling_to_hf(config),
        "rms_norm_eps": config.norm_epsilon, "tie_word_embeddings": config.tied, "attention_dropout": 0.0,
        "max_position_embeddings": config.context, "torch_dtype": dtype, "use_cache": True}
    if architecture != "Qwen2ForCausalLM" and architecture != "MistralForCausalLM":
        content["attention_bias"] = config.qkv_bias
    return content | _windows_to_hf(config, architecture)


@dataclasses.dataclass(frozen=True)
class _Source:
    """A config.json, whose values are checked as they are read; null counts as missing."""

    path: Path

    @functools.cached_property
    def content(self) -> dict[str, Any]:
        return read_json(self.path)

    def error(self, key: str, value: Any, allowed: str) -> ValueError:
        """What is wrong with a value, to be raised."""
        return ValueError(f"{self.path}: {key} is {str(value)[:60]!r}; {allowed}")

    def get(self, key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """The value of this kind, or the default where the key is missing or null. Raises ValueError."""
        value = self.content.get(key)
        if value is None:
            return default
        wrong_bool = isinstance(value, bool) and kind is not bool
        if not isinstance(value, kind) or wrong_bool:
            names = kind.__name__ if isinstance(kind, type) else " or ".join(one.__name__ for one in kind)
            raise self.error(key, value, f"{names} expected")
        return value

    def size(self, key: str, default: int | None = None) -> int:
        value = self.get(key, int, default)
        if value is None:
            raise ValueError(f"{self.path}: {key} is missing")
        if not 1 <= value < _LARGEST:
            raise self.error(key, value, f"1 to {_LARGEST - 1} expected")
        return value

    def number(self, key: str, default: float) -> float:
        return _positive(self, key, self.get(key, (int, float), default))


def _positive(source: _Source, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise source.error(key, value, "a number above 0 expected")
    return float(value)


def _family(source: _Source) -> str:
    named = source.get("architectures", list, [])
    if named and named[0] in FAMILIES:
        return FAMILIES[named[0]]
    model_type = source.get("model_type", str, "")
    if not named and model_type in FAMILIES.values():
        return model_type
    raise source.error("architectures", named or model_type, f"{', '.join(FAMILIES)} can be read")


def _refuse_others(source: _Source) -> None:
    """Features of other models, and their values where they are absent."""
    absent = {"mlp_bias": False, "partial_rotary_factor": 1.0, "quantization_config": None, "num_experts": 0,
              "num_local_experts": 0, "logit_scale": 1.0}
    for key, value in absent.items():
        if (found := source.content.get(key)) not in (None, value):
            raise source.error(key, found, f"the decoder has only {value}")
    if (found := source.get("hidden_act", str, "silu")) not in ("silu", "swish"):
        raise source.error("hidden_act", found, "the decoder has only 'silu'")


def _rotary(source: _Source) -> dict[str, Any]:
    """What newer configs call rope_parameters and older ones rope_scaling."""
    return source.get("rope_parameters", dict) or source.get("rope_scaling", dict) or {}


def _theta(source: _Source) -> float:
    value = _rotary(source).get("rope_theta")
    return source.number("rope_theta", 10_000.0) if value is None else _positive(source, "rope_theta", value)


def _scaling(source: _Source) -> RopeScaling | None:
    settings = _rotary(source)
    kind = settings.get("rope_type") or settings.get("type") or "default"
    if kind == "default":
        return None
    if kind not in SCALINGS:
        raise source.error("rope_scaling", kind, f"{', '.join(SCALINGS)} can be read")
    for key in ("mscale", "mscale_all_dim", "partial_rotary_factor"):
        if settings.get(key) not in (None, 1.0):
            raise source.error(f"rope_scaling.{key}", settings[key], "the decoder has not this")

    def number(key: str, default: float | None = None) -> float:
        value = settings.get(key)
        return _positive(source, f"rope_scaling.{key}", default if value is None else value)

    factor = number("factor")
    if kind == "linear":
        return RopeScaling(kind, factor)
    original = int(number("original_max_position_embeddings", source.size("max_position_embeddings", 32_768)))
    if kind == "llama3":
        return RopeScaling(kind, factor, original, number("low_freq_factor"), number("high_freq_factor"))
    return RopeScaling(kind, factor, original, number("beta_slow", 1.0), number("beta_fast", 32.0),
                       number("attention_factor", yarn_magnitude(factor)), bool(settings.get("truncate", True)))


def _scaling_to_hf(config: DecoderConfig) -> dict[str, Any] | None:
    scaling = config.rope_scaling
    if scaling is None:
        return None
    content = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "linear":
        return content
    content["original_max_position_embeddings"] = scaling.original
    if scaling.kind == "llama3":
        return content | {"low_freq_factor": scaling.low, "high_freq_factor": scaling.high}
    return content | {"beta_slow": scaling.low, "beta_fast": scaling.high, "attention_factor": scaling.magnitude,
                      "truncate": scaling.truncate}


def _windows(source: _Source, family: str, layers: int) -> tuple[int, ...]:
    """The window of each layer; () where no layer has one."""
    window = source.get("sliding_window", int, 0)
    if family == "llama" or not window or (family != "mistral" and not source.get("use_sliding_window", bool, False)):
        return ()
    first = 0 if family == "mistral" else source.get("max_window_layers", int, 28)
    default = ["sliding_attention" if i >= first else "full_attention" for i in range(min(layers, 2**16))]
    kinds = source.get("layer_types", list) or default
    unknown = [kind for kind in kinds if kind not in ("sliding_attention", "full_attention")]
    if unknown or len(kinds) != layers:
        raise source.error("layer_types", unknown or len(kinds), f"sliding_attention or full_attention for each of "
                           f"{layers} layers expected")
    windows = tuple(window if kind == "sliding_attention" else 0 for kind in kinds)
    return windows if any(windows) else ()


def _windows_to_hf(config: DecoderConfig, architecture: str) -> dict[str, Any]:
    if architecture == "MistralForCausalLM":
        return {"sliding_window": config.windows[0]}
    if architecture == "LlamaForCausalLM":
        return {}
    kinds = ["sliding_attention" if window else "full_attention" for window in config.windows or (0,) * config.layers]
    first = kinds.index("sliding_attention") if config.windows else config.layers
    return {"use_sliding_window": bool(config.windows), "sliding_window": max(config.windows, default=0) or None,
            "max_window_layers": first, "layer_types": kinds}


def _architecture(config: DecoderConfig) -> str:
    """The family with exactly the decoder's features."""
    sizes = set(config.windows)
    same_bias, everywhere = config.qkv_bias == config.output_bias, len(sizes) == 1 and 0 not in sizes
    if config.norms == "pre" and len(sizes - {0}) <= 1:
        if config.qk_norm and same_bias:
            return "Qwen3ForCausalLM"
        if not config.qk_norm and config.qkv_bias and not config.output_bias:
            return "Qwen2ForCausalLM"
        if not config.qk_norm and same_bias and not config.windows:
            return "LlamaForCausalLM"
        if not config.qk_norm and everywhere and not (config.qkv_bias or config.output_bias):
            return "MistralForCausalLM"
    raise ValueError(f"no Hugging Face family has norms={config.norms!r}, qk_norm={config.qk_norm}, qkv_bias="
                     f"{config.qkv_bias}, output_bias={config.output_bias} and windows={config.windows} together")
