"""A tokenizer whose tokens are the words, digits and signs of some texts, as they stand there."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from rl_reasoning.tokenizers.symbols import END, word_level
from rl_reasoning.types import Message

# A tag, a word, a digit, another sign (each with the space before it), or a space that nothing follows.
PATTERN = r"</?[a-z]+>| ?[A-Za-z]+| ?[0-9]| ?[^A-Za-z0-9\s]|\s"


def said(prompt: str | tuple[Message, ...]) -> str:
    """A prompt as a text: what its turns say, a line each."""
    return prompt if isinstance(prompt, str) else "\n".join(turn.content for turn in prompt)


class PieceTokenizer:
    """One id a piece (`PATTERN`), in their order; the last id is the end of sequence. Pieces put together are the text.

    Args: texts: whose pieces are known. All digits are, with and without a space.
    """

    def __init__(self, texts: Iterable[str]):
        digits = {f"{space}{digit}" for space in ("", " ") for digit in range(10)}
        pieces = sorted(digits.union(*(re.findall(PATTERN, text) for text in texts)))
        self._pieces = (*pieces, END)
        self._ids = {piece: i for i, piece in enumerate(self._pieces)}
        self.vocabulary_size = len(self._pieces)
        self.eos_id = self.vocabulary_size - 1

    def encode(self, text: str) -> list[int]:
        """Ids of a text. Raises ValueError on a piece that is not known."""
        pieces = re.findall(PATTERN, text)
        unknown = [piece for piece in pieces if piece not in self._ids]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not one of the {self.vocabulary_size} pieces of the texts that the "
                             f"tokenizer was made from, in {text[:80]!r}")
        return [self._ids[piece] for piece in pieces]

    def encode_prompt(self, prompt: str | tuple[Message, ...]) -> list[int]:
        """Ids of a prompt, as it is `said`."""
        return self.encode(said(prompt))

    def decode(self, ids: Sequence[int]) -> str:
        """The text, without the end of sequence. Raises IndexError on an id out of range."""
        return "".join(self._pieces[i] for i in ids if i != self.eos_id)

    def pipeline(self) -> Any:
        """The `tokenizers.Tokenizer` that a tokenizer.json holds. Raises ImportError without that package."""
        return word_level(self._ids, PATTERN)
