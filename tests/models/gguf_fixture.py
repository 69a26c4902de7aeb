"""Writes small GGUF files: a two-layer model of llama's shape with the tokenizer of SmolLM's kind."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np

LAYERS, WIDTH, HEADS, KV_HEADS, HEAD_DIM, MLP = 2, 64, 4, 2, 16, 96

# The chat template inside SmolLM2-135M-Instruct (Apache-2.0), as data: its digest is what is recognised.
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("h e", "l l", "he ll", "hell o", "Ġ w", "Ġw o", "r l", "rl d", "Ġwo rld", "Ġ Ġ", "i m", "im _", "u s", "e r",
          "us er", "1 2", "Ã ©")
KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1")


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-ins for the bytes 0 to 255: itself where printable, else the next from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(256 + hidden.index(byte)) for byte in range(256)]


def tokens() -> list[str]:
    return [*SPECIAL, *byte_alphabet(), *(merge.replace(" ", "") for merge in MERGES)]


def metadata() -> dict[str, Any]:
    """Everything a file says beside its tensors. Python ints become uint32, floats float32."""
    return {
        "general.architecture": "llama", "llama.block_count": LAYERS, "llama.context_length": 1024,
        "llama.embedding_length": WIDTH, "llama.feed_forward_length": MLP, "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS, "llama.rope.freq_base": 100000.0,
        "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.dimension_count": HEAD_DIM,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.tokens": tokens(),
        "tokenizer.ggml.token_type": [3] * len(SPECIAL) + [1] * (256 + len(MERGES)),
        "tokenizer.ggml.merges": list(MERGES), "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": TEMPLATE,
    }


def tensors(tied: bool = True) -> dict[str, tuple[np.ndarray, str]]:
    """Random weights [out, in] in the file's own row order, with the type each is stored in."""
    rng = np.random.default_rng(0)

    def weight(rows: int, columns: int, kind: str) -> tuple[np.ndarray, str]:
        return rng.normal(size=(rows, columns)).astype(np.float32) / np.sqrt(columns).astype(np.float32), kind

    def scale() -> tuple[np.ndarray, str]:
        return rng.uniform(0.5, 1.5, WIDTH).astype(np.float32), "F32"

    result = {"token_embd.weight": weight(len(tokens()), WIDTH, "Q8_0"), "output_norm.weight": scale()}
    if not tied:
        result["output.weight"] = weight(len(tokens()), WIDTH, "F16")
    for i in range(LAYERS):
        layer = {"attn_norm": scale(), "attn_q": weight(HEADS * HEAD_DIM, WIDTH, "Q4_1"),
                 "attn_k": weight(KV_HEADS * HEAD_DIM, WIDTH, "Q4_1"),
                 "attn_v": weight(KV_HEADS * HEAD_DIM, WIDTH, "Q4_0"),
                 "attn_output": weight(WIDTH, HEADS * HEAD_DIM, "BF16"), "ffn_norm": scale(),
                 "ffn_gate": weight(MLP, WIDTH, "F16"), "ffn_up": weight(MLP, WIDTH, "F32"),
                 "ffn_down": weight(WIDTH, MLP, "Q8_0")}
        result |= {f"blk.{i}.{name}.weight": value for name, value in layer.items()}
    return result


def stored(array: np.ndarray, kind: str) -> np.ndarray:
    """What a tensor reads as after it was stored in `kind`."""
    kind = gguf.GGMLQuantizationType[kind]
    return gguf.dequantize(gguf.quantize(array, kind).view(np.uint8), kind).reshape(array.shape)


def write(path: Path, entries: dict[str, Any] | None = None,
          weights: dict[str, tuple[np.ndarray, str]] | None = None) -> Path:
    """Writes a GGUF file. A uint8 array is taken as bytes that are already in the tensor's type."""
    entries, weights = metadata() if entries is None else entries, tensors() if weights is None else weights
    writer = gguf.GGUFWriter(path, entries["general.architecture"])
    for key, value in entries.items():
        if key != "general.architecture":
            _add(writer, key, value)
    for name, (array, kind) in weights.items():
        kind = gguf.GGMLQuantizationType[kind]
        data = array if array.dtype == np.uint8 else gguf.quantize(array, kind)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    add = {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32, list: writer.add_array}
    add[type(value)](key, value)
