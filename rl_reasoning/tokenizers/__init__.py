"""Text to token ids and back. Ids are what is sampled and trained; text is derived and never encoded again."""

from collections.abc import Sequence
from typing import Protocol

from rl_reasoning.types import Message


class Tokenizer(Protocol):
    """What the rest of the library asks of a tokenizer. Masks come from lengths, so there is no padding id."""

    vocabulary_size: int
    eos_id: int

    def encode(self, text: str) -> list[int]:
        """Ids of a plain text; nothing is added."""
        ...

    def encode_prompt(self, prompt: str | tuple[Message, ...]) -> list[int]:
        """Ids that the policy continues: a plain text as it is, chat turns through the chat template."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of some ids; special tokens are left out."""
        ...
