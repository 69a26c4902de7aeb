"""Compares the decoder with transformers on the CPU, in float32, and prints the largest difference of each case.

    pip install torch transformers            # beside the project's own packages; nothing else here needs them
    python scripts/parity_transformers.py                 # the table
    python scripts/parity_transformers.py --write         # and the numbers that the tests compare with
    python scripts/parity_transformers.py --model PATH    # a folder or .gguf file of your own: logits, 64 greedy tokens

Each case is a small model that transformers builds from a config, with weights from a formula
(`tests/models/hf_cases.py`), saved by transformers, read here: logits of the whole sequence, logits of cached
decoding, a round trip through export that transformers reads again, and the norm placements that no family of
transformers has as they are: peri as Gemma 2 without soft caps, post as Llama's own parts in another order.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from rl_reasoning.config import Sampling
from rl_reasoning.export import write_weights
from rl_reasoning.models import gguf, hf, hf_config
from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.sampling.engine import JaxEngine
from rl_reasoning.tokenizers.folder import read_tokenizer
from rl_reasoning.types import Prompts
from tests.models import hf_cases
from tests.models.passes import decoded, forward
from tests.tokenizers import folder_fixture

TESTS = Path(__file__).parent.parent / "tests"
GOLDENS = TESTS / "models" / "goldens_transformers.json"
CHATS = TESTS / "tokenizers" / "goldens_chat.json"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {GOLDENS.name}")
    parser.add_argument("--model", type=Path, help="compare on this folder or .gguf file instead")
    parser.add_argument("--templates", type=Path, help="compare the .jinja chat templates in this folder instead")
    options = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(2)
    if options.templates:
        compare_templates({path.stem: path.read_text() for path in sorted(options.templates.glob("*.jinja"))})
        return 0
    if options.model:
        return compare_model(options.model)
    print(f"{'case':22} {'logits':>9} {'decode':>9} {'exported':>9}   largest differences, float32")
    goldens = {name: compare(name, config) for name, config in hf_cases.CASES.items()}
    goldens |= {"norms_peri": compare_norms("norms_peri", gemma_logits),
                "norms_post": compare_norms("norms_post", post_logits)}
    chats = compare_templates({name: name for name in folder_fixture.TEMPLATES})
    if options.write:
        CHATS.write_text(json.dumps(chats, indent=1) + "\n")
        GOLDENS.write_text(json.dumps({name: np.round(row, 5).tolist() for name, row in goldens.items()}) + "\n")
        print(f"written: {GOLDENS}, {CHATS}")
    return 0


def compare_model(path: Path) -> int:
    """Prints the largest difference of logits over 64 ids, and how many of 64 greedy tokens after them agree."""
    import torch

    tokens = [list(range(300, 364))]
    theirs, (config, parameters) = load(path), read(path)
    expected = torch_logits(theirs, tokens)
    print(f"{path.name}: logits {expected.min():.1f} to {expected.max():.1f}, largest difference "
          f"{np.abs(forward(config, parameters, tokens) - expected).max():.1e}")
    ids = torch.tensor(tokens)
    greedy = theirs.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=64,
                             min_new_tokens=64)[0, 64:].tolist()
    prompts = Prompts(np.asarray(tokens, np.int32), np.full(1, 64, np.int32))
    ours = JaxEngine(config, eos_id=-1).generate(parameters, prompts, [1], Sampling(temperature=0, max_tokens=64),
                                                 jax.random.key(0)).ids[0].tolist()
    print(f"greedy tokens that agree: {sum(a == b for a, b in zip(ours, greedy, strict=True))} of 64")
    return int(ours != greedy)


def compare(name: str, content: dict) -> np.ndarray:
    """Prints one family's line; returns transformers' logits of the last position."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(content))
        theirs = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), attn_implementation="eager")
        fill(theirs, hf_cases.tensor)
        theirs.save_pretrained(Path(folder) / "saved", max_shard_size="20KB")
        expected = torch_logits(theirs, hf_cases.TOKENS)
        config, parameters = read(Path(folder) / "saved")
        ours = forward(config, parameters, hf_cases.TOKENS)
        write_weights(Path(folder) / "exported", config, parameters, hf_config.to_hf(config, "float32"), 20_000)
        again = torch_logits(load(Path(folder) / "exported"), hf_cases.TOKENS)
    report(name, expected, ours, decoded(config, parameters, hf_cases.TOKENS), again)
    return expected[0, -1]


def report(name: str, expected: np.ndarray, *others: np.ndarray) -> None:
    print(f"{name:22} " + " ".join(f"{np.abs(values - expected).max():9.1e}" for values in others))


def fill(model, tensor) -> None:
    """Sets every weight of a torch model by its name."""
    import torch

    with torch.no_grad():
        for name, values in model.named_parameters():
            values.copy_(torch.from_numpy(tensor(name, tuple(values.shape))))


def load(folder: Path):
    import torch
    from transformers import AutoModelForCausalLM

    options = {"dtype": torch.float32, "attn_implementation": "eager"}
    if folder.suffix == ".gguf":
        return AutoModelForCausalLM.from_pretrained(folder.parent, gguf_file=folder.name, **options)
    return AutoModelForCausalLM.from_pretrained(folder, **options)


def torch_logits(model, tokens: list[list[int]]) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model.eval()(torch.tensor(tokens)).logits.numpy()


def read(folder: Path) -> tuple[DecoderConfig, Parameters]:
    if folder.suffix == ".gguf":
        return gguf.read_config(folder), gguf.read_parameters(folder)
    config = hf_config.read_config(folder)
    return config, hf.read_parameters(folder, config)


def compare_norms(name: str, reference) -> np.ndarray:
    """Prints the line of a norm placement that no family has alone; the weights are those of the case "llama"."""
    config = hf_cases.norms_config(name.removeprefix("norms_"))
    parameters = hf_cases.norms_parameters(config)
    expected = reference(hf_cases.CASES["llama"])
    report(name, expected, forward(config, parameters, hf_cases.TOKENS), decoded(config, parameters, hf_cases.TOKENS))
    return expected[0, -1]


def gemma_logits(content: dict) -> np.ndarray:
    """Logits of Gemma 2 without soft caps, its scaled embedding and its 1 + w norms undone in the weights."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    sizes = {key: content[key] for key in hf_cases.SIZES if key not in ("hidden_act", "torch_dtype", "rope_theta")}
    model = Gemma2ForCausalLM(Gemma2Config(
        **sizes, hidden_activation="silu", query_pre_attn_scalar=content["head_dim"], attn_logit_softcapping=None,
        final_logit_softcapping=None, tie_word_embeddings=False, sliding_window=64, attn_implementation="eager",
        layer_types=["full_attention"] * content["num_hidden_layers"]))

    def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
        values = hf_cases.tensor(hf_cases.gemma_name(name), shape)
        if "norm" in name:
            return values - 1
        return values / np.float32(content["hidden_size"] ** 0.5) if "embed_tokens" in name else values

    fill(model, tensor)
    return torch_logits(model, hf_cases.TOKENS)


def post_logits(content: dict) -> np.ndarray:
    """Logits of Llama with each norm after its sum."""
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.models.llama import modeling_llama

    class PostLayer(modeling_llama.LlamaDecoderLayer):
        def forward(self, hidden_states, **rest):
            attended, _ = self.self_attn(hidden_states=hidden_states, **rest)
            x = self.input_layernorm(hidden_states + attended)
            return self.post_attention_layernorm(x + self.mlp(x))

    model = LlamaForCausalLM(LlamaConfig(**{key: content[key] for key in hf_cases.SIZES if key != "torch_dtype"},
                                         tie_word_embeddings=False, attn_implementation="eager"))
    for layer in model.model.layers:
        layer.__class__ = PostLayer
    fill(model, hf_cases.tensor)
    return torch_logits(model, hf_cases.TOKENS)


def compare_templates(templates: dict[str, str]) -> dict[str, dict[str, str]]:
    """Prints how many chats have the ids of `apply_chat_template`; returns its texts.

    Args: templates: name -> a name of the fixture's, or a template's text.
    """
    from transformers import PreTrainedTokenizerFast

    texts, equal, total = {}, 0, 0
    for name, template in templates.items():
        with tempfile.TemporaryDirectory() as folder:
            folder_fixture.write(Path(folder), template)
            theirs, ours = PreTrainedTokenizerFast.from_pretrained(folder), read_tokenizer(folder)
        texts[name] = {}
        for chat, messages in folder_fixture.CHATS.items():
            turns = [{"role": message.role, "content": message.content} for message in messages]
            texts[name][chat] = theirs.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            ids = theirs(texts[name][chat], add_special_tokens=False)["input_ids"]
            same = ids == ours.encode_prompt(messages)
            equal, total = equal + same, total + 1
            if not same:
                print(f"{name}, {chat}: {texts[name][chat]!r} is not {ours.decode(ours.encode_prompt(messages))!r}")
    print(f"chat templates: {equal} of {total} prompts have the same ids")
    return texts


if __name__ == "__main__":
    sys.exit(main())
