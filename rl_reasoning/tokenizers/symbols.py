"""A tokenizer whose tokens are the words of a small closed language, separated by spaces."""

from collections.abc import Mapping, Sequence
from typing import Any

from rl_reasoning.types import Message

END = "<eos>"


class SymbolTokenizer:
    """One id a symbol, in the order given; the last id is the end of sequence.

    Args:
      symbols: distinct words without spaces.

    Raises:
      ValueError: a symbol is repeated, empty, or has a space.
    """

    def __init__(self, symbols: Sequence[str]):
        repeated = [s for i, s in enumerate(symbols) if s in symbols[:i]]
        bad = [s for s in symbols if not s or any(c.isspace() for c in s)] + repeated
        if bad:
            raise ValueError(f"symbols must be distinct words without spaces; {bad[0]!r} is not")
        self._symbols = (*symbols, END)
        self._ids = {symbol: i for i, symbol in enumerate(self._symbols)}
        self.vocabulary_size = len(self._symbols)
        self.eos_id = self.vocabulary_size - 1

    def encode(self, text: str) -> list[int]:
        """Ids of the words of `text`. Raises ValueError on a word that is no symbol."""
        words = text.split()
        unknown = [word for word in words if word not in self._ids]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not one of the {self.vocabulary_size} symbols "
                             f"({' '.join(self._symbols[:8])} ...)")
        return [self._ids[word] for word in words]

    def encode_prompt(self, prompt: str | tuple[Message, ...]) -> list[int]:
        """Ids of a plain prompt. Raises ValueError on chat turns, which this language has not."""
        if not isinstance(prompt, str):
            raise ValueError("a symbol language has no chat template; give the prompt as a plain text")
        return self.encode(prompt)

    def pipeline(self) -> Any:
        """The `tokenizers.Tokenizer` that a tokenizer.json holds. Raises ImportError without that package."""
        return word_level(self._ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The words, separated by spaces, without the end of sequence. Raises IndexError on an id out of range."""
        return " ".join(self._symbols[i] for i in ids if i != self.eos_id)


def word_level(ids: Mapping[str, int], pattern: str = "") -> Any:
    """A `tokenizers.Tokenizer` with one id a piece: what is between spaces, or what a pattern finds, as it stands.

    Raises ImportError without that package.
    """
    try:
        from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    except ImportError as error:
        raise ImportError("tokenizer.json needs the tokenizers package: pip install -e '.[lm]'") from error
    pipeline = Tokenizer(models.WordLevel(dict(ids), unk_token=END))
    if pattern:
        pipeline.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
        pipeline.decoder = decoders.Fuse()
    else:
        pipeline.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    pipeline.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    return pipeline
