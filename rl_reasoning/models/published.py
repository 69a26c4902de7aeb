"""Sizes of published models by name, as their config.json files give them, so that planning a run needs no download."""

import dataclasses

from rl_reasoning.models.architecture import DecoderConfig

_SMOLLM = DecoderConfig(49_152, 30, 576, 9, 3, 64, 1_536, context=8_192)


def _qwen2(layers: int, width: int, heads: int, kv_heads: int, mlp: int, *, head_dim: int = 128,
           vocabulary: int = 151_936, tied: bool = True) -> DecoderConfig:
    return DecoderConfig(vocabulary, layers, width, heads, kv_heads, head_dim, mlp, rope_theta=1e6, norm_epsilon=1e-6,
                         tied=tied, qkv_bias=True)


def _qwen3(layers: int, width: int, mlp: int, *, tied: bool) -> DecoderConfig:
    return DecoderConfig(151_936, layers, width, 32, 8, 128, mlp, rope_theta=1e6, norm_epsilon=1e-6, tied=tied,
                         qk_norm=True, context=40_960)


def _math(config: DecoderConfig) -> DecoderConfig:
    """Qwen2.5-Math: the same sizes with positions as in Qwen2's pre-training, for 4,096 tokens in all."""
    return dataclasses.replace(config, rope_theta=1e4, context=4_096)


_QWEN2_1B, _QWEN2_7B = _qwen2(28, 1_536, 12, 2, 8_960), _qwen2(28, 3_584, 28, 4, 18_944, vocabulary=152_064, tied=False)
_QWEN3_8B = _qwen3(36, 4_096, 12_288, tied=False)
SIZES = {
    "klear-reasoner-8b-sft": _QWEN3_8B,
    "qwen2.5-0.5b": _qwen2(24, 896, 14, 2, 4_864, head_dim=64),
    "qwen2.5-1.5b": _QWEN2_1B,
    "qwen2.5-3b": _qwen2(36, 2_048, 16, 2, 11_008),
    "qwen2.5-7b": _QWEN2_7B,
    "qwen2.5-math-1.5b": _math(_QWEN2_1B),
    "qwen2.5-math-7b": _math(_QWEN2_7B),
    "qwen3-4b": _qwen3(36, 2_560, 9_728, tied=True),
    "qwen3-8b": _QWEN3_8B,
    "smollm2-135m": _SMOLLM,
}


def sizes_of(source: str) -> DecoderConfig | None:
    """The sizes of a model that is named as in `SIZES`, or as a `model.source`: hf:Qwen/Qwen3-4B@REVISION."""
    return SIZES.get(source.partition("@")[0].rpartition("/")[2].lower())
