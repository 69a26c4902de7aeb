"""Byte-level BPE tokenizer of a GGUF file (SmolLM2): ids, pieces and chat prompts as in the model's training.

Special tokens come from the chat template alone. A text that spells "<|im_end|>" is encoded as the
characters it is made of, so untrusted text (a problem, a model's own answer) cannot forge a turn.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rl_reasoning import gguf_file
from rl_reasoning.tokenizers import chat
from rl_reasoning.tokenizers.prompts import PromptTokenizer, Template

_CONTROL = 3  # a special token, in the file's token types


class ByteBPE(PromptTokenizer):
    """Digits one by one, then GPT-2's split of the text, then byte-pair merges (arXiv 1508.07909) of bytes.

    Args:
      tokens: pieces in the order of their ids, bytes written in GPT-2's printable alphabet.
      merges: pairs "left right", first merged first.
      special: ids that are control tokens.
      eos_id: the token that ends an answer.
      template: how chat turns are written, or None for a model without one.

    Attributes:
      vocabulary_size: number of ids.
      eos_id: the token that ends an answer.

    Raises:
      ValueError: a repeated token, a merge that is no pair of tokens, an id out of range, or a template
        whose control tokens are not special tokens.
      ImportError: the `tokenizers` package is not installed.
    """

    def __init__(self, tokens: Sequence[str], merges: Sequence[str], *, special: Sequence[int], eos_id: int,
                 template: Template | None = None):
        self.vocabulary_size = len(tokens)
        self.eos_id = eos_id
        _check_ids((*special, eos_id), len(tokens))
        super().__init__({tokens[i]: i for i in special}, template)
        self._pipeline = _pipeline(tokens, merges)

    @classmethod
    def from_gguf(cls, path: str | Path) -> "ByteBPE":
        """The tokenizer in the metadata of a GGUF file.

        Raises:
          ValueError: not a GGUF file; another kind of tokenizer than SmolLM's; an unknown chat template.
          ImportError: the `tokenizers` package is not installed.
        """
        file = gguf_file.read(path)
        kind = (file.get("tokenizer.ggml.model", str), file.get("tokenizer.ggml.pre", str))
        if kind != ("gpt2", "smollm"):
            raise ValueError(f"{path}: tokenizer {kind}; only ('gpt2', 'smollm') can be read")
        template = file.get("tokenizer.chat_template", str, "")
        tokens, types = file.get("tokenizer.ggml.tokens", list), file.get("tokenizer.ggml.token_type", np.ndarray)
        if len(types) != len(tokens):
            raise ValueError(f"{path}: {len(types)} token types for {len(tokens)} tokens")
        try:
            return cls(tokens, file.get("tokenizer.ggml.merges", list),
                       special=np.flatnonzero(types == _CONTROL).tolist(),
                       eos_id=file.get("tokenizer.ggml.eos_token_id", int),
                       template=chat.recognise(template) if template else None)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def encode(self, text: str) -> list[int]:
        """Ids of a text; nothing is added, and no special token is recognised in it.

        Bytes that are no token (in SmolLM2 some control characters and unassigned planes) are left out, as
        the model's own tokenizer does.
        """
        return self._pipeline.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of some ids, special tokens left out; bytes that are no UTF-8 become U+FFFD.

        Raises ValueError on an id out of range.
        """
        ids = [int(i) for i in ids]
        _check_ids(ids, self.vocabulary_size)
        return self._pipeline.decode([i for i in ids if i not in self._special_ids])


    def pipeline(self) -> Any:
        """The `tokenizers.Tokenizer` that a tokenizer.json holds, in which special tokens are recognised."""
        from tokenizers import AddedToken, Tokenizer

        copied = Tokenizer.from_str(self._pipeline.to_str())
        copied.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in self.special_tokens])
        return copied


def _check_ids(ids: Sequence[int], size: int) -> None:
    wrong = [i for i in ids if not 0 <= i < size]
    if wrong:
        raise ValueError(f"token id {wrong[0]} is not in 0..{size - 1}")


def _pipeline(tokens: Sequence[str], merges: Sequence[str]) -> Any:
    """The `tokenizers` pipeline, without special tokens: what is not added cannot be recognised in a text."""
    try:
        import tokenizers
        from tokenizers import decoders, models, pre_tokenizers
    except ImportError as error:
        raise ImportError("byte-level BPE needs the tokenizers package: pip install -e '.[lm]'") from error
    vocabulary = {token: i for i, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise ValueError("the vocabulary holds a token twice")
    pairs: list[Any] = [tuple(merge.split(" ")) for merge in merges]
    bad = [pair for pair in pairs if len(pair) != 2 or not {*pair, "".join(pair)} <= vocabulary.keys()]
    if bad:
        raise ValueError(f"merge {' '.join(bad[0])!r} is not a pair of tokens that makes a token")
    pipeline = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    pipeline.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    pipeline.decoder = decoders.ByteLevel()
    return pipeline
