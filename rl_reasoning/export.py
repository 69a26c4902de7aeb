"""A policy as a Hugging Face folder, as transformers reads it; a folder appears whole or not at all."""

import contextlib
import itertools
import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rl_reasoning import gguf_file
from rl_reasoning.models import hf, lora, weights
from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.models.safetensors_folder import INDEX, SINGLE
from rl_reasoning.tokenizers import Tokenizer, folder
from rl_reasoning.tokenizers.byte_bpe import ByteBPE
from rl_reasoning.tokenizers.symbols import SymbolTokenizer

SHARD_BYTES = 5 * 10**9


def write_weights(out: Path, config: DecoderConfig, parameters: Parameters, content: dict[str, Any],
                  shard_bytes: int = SHARD_BYTES) -> None:
    """Writes config.json and the weights, adapters merged.

    Args:
      out: the folder; made if it is not there.
      content: config.json (`models.hf_config.to_hf`); its torch_dtype is the type of the weights.
      shard_bytes: the most bytes of a file's tensors; a larger tensor has a file of its own. Several files come
        with an index.
    """
    dtype = content["torch_dtype"]
    parameters = lora.merge(config, parameters)
    sizes = {name: math.prod(shape) * weights.TYPES[dtype].itemsize for name, shape in hf.shapes(config).items()}
    groups = _groups(sizes, shard_bytes)
    files = [SINGLE] if len(groups) == 1 else [f"model-{i + 1:05d}-of-{len(groups):05d}.safetensors"
                                               for i in range(len(groups))]
    out.mkdir(parents=True, exist_ok=True)
    stream = hf.tensors(config.plain(), parameters, dtype)
    for names, file in zip(groups, files, strict=True):
        _save(dict(itertools.islice(stream, len(names))), out / file)
    if len(groups) > 1:
        home = {name: file for names, file in zip(groups, files, strict=True) for name in names}
        write_json(out / INDEX, {"metadata": {"total_size": sum(sizes.values())}, "weight_map": home})
    write_json(out / "config.json", content)


def write_adapters(out: Path, config: DecoderConfig, parameters: Parameters, base: str) -> None:
    """Writes the adapters alone as PEFT reads them: adapter_config.json and adapter_model.safetensors.

    Args: base: name or path of the model that they belong to.
    Raises ValueError when the decoder has no adapters.
    """
    if config.lora is None:
        raise ValueError("this policy was trained without adapters; export the whole model")
    out.mkdir(parents=True, exist_ok=True)
    _save(hf.adapters(config, parameters), out / "adapter_model.safetensors")
    write_json(out / "adapter_config.json", {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "inference_mode": True,
        "r": config.lora.rank, "lora_alpha": config.lora.alpha, "lora_dropout": 0.0, "bias": "none",
        "fan_in_fan_out": False, "target_modules": hf.adapter_modules(config)})


def write_tokenizer(out: Path, tokenizer: Tokenizer, source: Path | None) -> None:
    """Writes the tokenizer's files and generation_config.json.

    Args:
      source: where the tokenizer came from: a Hugging Face folder, whose files are copied; a GGUF file, whose chat
        template is taken along; or None.
    """
    out.mkdir(parents=True, exist_ok=True)
    if source is not None and source.is_dir():
        for name in filter(lambda name: (source / name).is_file(), folder.FILES):
            shutil.copyfile(source / name, out / name)
    else:
        assert isinstance(tokenizer, SymbolTokenizer | ByteBPE)  # all others come from folders
        pipeline = tokenizer.pipeline()
        pipeline.save(str(out / folder.JSON))
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": pipeline.id_to_token(tokenizer.eos_id),
                    "clean_up_tokenization_spaces": False, "add_bos_token": False}
        template = gguf_file.read(source).get("tokenizer.chat_template", str, "") if source else ""
        write_json(out / "tokenizer_config.json", settings | ({"chat_template": template} if template else {}))
    if not (out / "generation_config.json").is_file():
        write_json(out / "generation_config.json", {"eos_token_id": tokenizer.eos_id, "do_sample": True})


@contextlib.contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to write in, which becomes `out` at the end of the block, or vanishes when the block fails.

    Raises FileExistsError when `out` is there and not an empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is there already and not an empty folder; name another")
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield aside
        aside.chmod(0o755)
        aside.replace(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file as the hub's are written: two spaces, a last newline."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def _groups(sizes: dict[str, int], most: int) -> list[list[str]]:
    """Names in their order, in as few files as come from filling one after another."""
    groups: list[list[str]] = [[]]
    size = 0
    for name, bytes_ in sizes.items():
        if groups[-1] and size + bytes_ > most:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += bytes_
    return groups


def _save(tensors: dict[str, np.ndarray], path: Path) -> None:
    try:
        from safetensors.numpy import save_file
    except ImportError as error:
        raise ImportError("export needs the safetensors package: pip install -e '.[lm]'") from error
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # the package leaves it to its owner alone
