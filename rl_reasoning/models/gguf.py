"""Weights of a Llama-shaped model (SmolLM2) from a GGUF file, as parameters of `models.decoder`.

Quantised weights are dequantised exactly as the file says; nothing is fitted or rounded again. The whole
file is checked before any parameter is returned: a missing, extra, mis-shaped or non-finite tensor is an
error that names it.
"""

import math
from pathlib import Path
from types import ModuleType

import numpy as np

from rl_reasoning import gguf_file
from rl_reasoning.models import weights
from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.models.decoder import Parameters

KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1")

# our place in a layer -> name in the file
_LAYER = {("attention", "query"): "attn_q", ("attention", "key"): "attn_k", ("attention", "value"): "attn_v",
          ("attention", "output"): "attn_output", ("mlp", "gate"): "ffn_gate", ("mlp", "up"): "ffn_up",
          ("mlp", "down"): "ffn_down", ("attention_norm",): "attn_norm", ("mlp_norm",): "ffn_norm"}
_OTHERS = {"embed": "token_embd", "final_norm": "output_norm", "head": "output"}


def read_config(path: str | Path) -> DecoderConfig:
    """Sizes of the model in a GGUF file.

    Raises:
      ValueError: not a GGUF file; another architecture than llama; rotary scaling or partial rotary, which
        the decoder has not; sizes that are missing or contradict each other.
    """
    return _config(gguf_file.read(path))


def read_parameters(path: str | Path, config: DecoderConfig | None = None,
                    place: weights.Place | None = None) -> Parameters:
    """Parameters of the model in a GGUF file, without adapters, in the types of `config.precision`.

    Layers are stacked on the first axis and kernels are [L, in, out]. Rows of query and key are put back
    from the file's interleaved rotary layout into halves.

    Args:
      config: what `read_config` gives, with other types perhaps; None reads it.
      place: see `weights.assemble`.

    Raises:
      ValueError: as `read_config`, or a tensor is missing, unknown, of another shape, of a type that is not
        in `KINDS`, cut off, or holds a NaN or an infinity. Nothing is returned then.
      ImportError: the `gguf` package is not installed.
    """
    file, library = gguf_file.read(path), _library()
    config = config or _config(file)
    _check_tensors(file, _expected_shapes(config), library)
    heads = {"attn_q": config.heads, "attn_k": config.kv_heads}

    def read(where: weights.Path, layer: int) -> np.ndarray:
        if where[0] != "layers":
            values = _tensor(file, f"{_OTHERS[where[0]]}.weight", library)
        else:
            name = _LAYER[where[1:-1]]
            values = _tensor(file, f"blk.{layer}.{name}.weight", library)
            values = to_halves(values, heads[name]) if name in heads else values
        return values.T if where[-1] == "kernel" else values

    return weights.assemble(config, read, place)


def to_halves(rows: np.ndarray, heads: int) -> np.ndarray:
    """Undoes the row order of query and key weights in llama GGUF files.

    There, rows 2i and 2i + 1 of a head are the pair that rotary position i turns; here (and in Hugging Face
    checkpoints) the pair is i and i + head_dim / 2. A wrong order still gives half plausible text.

    Args: rows [heads * head_dim, in]. Returns: the same shape.
    """
    pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, rows.shape[1])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def _library() -> ModuleType:
    """The `gguf` package, which knows the quantised formats."""
    try:
        import gguf
    except ImportError as error:
        raise ImportError("reading GGUF weights needs the gguf package: pip install -e '.[lm]'") from error
    return gguf


def _config(file: gguf_file.GGUFFile) -> DecoderConfig:
    architecture = file.get("general.architecture", str)
    if architecture != "llama":
        raise ValueError(f"{file.path}: architecture {architecture!r}; only 'llama' (SmolLM2) can be read")
    heads, width, layers = (_size(file, key) for key in ("attention.head_count", "embedding_length", "block_count"))
    if layers > len(file.tensors):
        raise ValueError(f"{file.path}: llama.block_count is {layers}, and the file holds {len(file.tensors)} tensors")
    head_dim = file.get("llama.attention.key_length", int, width // heads)
    _check_rotary(file, head_dim)
    try:
        return DecoderConfig(
            vocabulary=_vocabulary(file), layers=layers, width=width, heads=heads,
            kv_heads=_size(file, "attention.head_count_kv"), head_dim=head_dim,
            mlp=_size(file, "feed_forward_length"),
            rope_theta=_decimal(file.get("llama.rope.freq_base", float, 10_000.0)),
            norm_epsilon=_decimal(file.get("llama.attention.layer_norm_rms_epsilon", float)),
            tied="output.weight" not in file.tensors,
            context=file.get("llama.context_length", int, 8192))
    except ValueError as error:
        raise ValueError(f"{file.path}: {error}") from error


def _vocabulary(file: gguf_file.GGUFFile) -> int:
    """Rows of the embedding, which must be as many as the tokens where the file lists them."""
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or not embedding.shape:
        raise ValueError("token_embd.weight is missing or has no shape")
    rows = embedding.shape[0]
    tokens = len(file.get("tokenizer.ggml.tokens", list, [])) or rows
    if rows != tokens:
        raise ValueError(f"the embedding has {rows} rows for {tokens} tokens")
    return rows


def _size(file: gguf_file.GGUFFile, key: str) -> int:
    value = file.get(f"llama.{key}", int)
    if value < 1:
        raise ValueError(f"{file.path}: llama.{key} is {value}; it must be positive")
    return value


def _check_rotary(file: gguf_file.GGUFFile, head_dim: int) -> None:
    turned = file.get("llama.rope.dimension_count", int, head_dim)
    if turned != head_dim:
        raise ValueError(f"{file.path}: rotary positions turn {turned} of {head_dim} dimensions; all are expected")
    scaling = file.get("llama.rope.scaling.type", str, "none")
    if scaling != "none":
        raise ValueError(f"{file.path}: rotary scaling {scaling!r} is not supported; only 'none' is")


def _decimal(value: float) -> float:
    """The shortest decimal of a float32: 1e-5, where the widened value would read 9.999999747e-06."""
    return float(str(np.float32(value)))


def _expected_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor that the file must hold, with its shape [out, in]; there must be no others."""
    c, query, key = config, config.heads * config.head_dim, config.kv_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (c.vocabulary, c.width), "output_norm": (c.width,)}
    if not c.tied:
        shapes["output"] = (c.vocabulary, c.width)
    layer = {"attn_norm": (c.width,), "ffn_norm": (c.width,), "attn_q": (query, c.width), "attn_k": (key, c.width),
             "attn_v": (key, c.width), "attn_output": (c.width, query), "ffn_gate": (c.mlp, c.width),
             "ffn_up": (c.mlp, c.width), "ffn_down": (c.width, c.mlp)}
    shapes |= {f"blk.{i}.{name}": shape for i in range(c.layers) for name, shape in layer.items()}
    return {f"{name}.weight": shape for name, shape in shapes.items()}


def _check_tensors(file: gguf_file.GGUFFile, expected: dict[str, tuple[int, ...]], library: ModuleType) -> None:
    problems = [f"{name} is missing" for name in expected if name not in file.tensors]
    problems += [f"{name} is not a tensor of this architecture" for name in file.tensors if name not in expected]
    for name in [name for name in expected if name in file.tensors]:
        tensor = file.tensors[name]
        if tensor.shape != expected[name]:
            problems.append(f"{name} has shape {tensor.shape}, {expected[name]} expected")
        kinds = {int(library.GGMLQuantizationType[kind]): kind for kind in KINDS}
        if tensor.kind not in kinds:
            problems.append(f"{name} has type {tensor.kind}, known are {', '.join(KINDS)}")
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise ValueError(f"{file.path}: {'; '.join(problems[:3])}{more}")


def _tensor(file: gguf_file.GGUFFile, name: str, library: ModuleType) -> np.ndarray:
    """One tensor in float32, in a fresh array of the file's shape [out, in]."""
    info = file.tensors[name]
    kind = library.GGMLQuantizationType(info.kind)
    block, block_bytes = library.GGML_QUANT_SIZES[kind]
    if info.shape[-1] % block:
        raise ValueError(f"{file.path}: {name} has rows of {info.shape[-1]}, not a multiple of {block} ({kind.name})")
    row_bytes = info.shape[-1] // block * block_bytes
    data = file.tensor_bytes(info, math.prod(info.shape[:-1]) * row_bytes).reshape(*info.shape[:-1], row_bytes)
    values = np.array(library.dequantize(data, kind), dtype=np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{file.path}: {name} holds a NaN or an infinity; the file is damaged")
    return values
