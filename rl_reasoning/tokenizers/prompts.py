"""How a tokenizer with special tokens turns prompts into ids; the part that its kinds share."""

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from rl_reasoning.tokenizers import Tokenizer
from rl_reasoning.tokenizers.chat import Control
from rl_reasoning.types import Message

Own = TypeVar("Own", bound="PromptTokenizer")


class Example(NamedTuple):
    """A prompt with its answer: ids, and for each whether it is the answer's (its end included) and so is trained."""

    ids: list[int]
    loss_mask: list[bool]


def encode_example(tokenizer: Tokenizer, prompt: str | tuple[Message, ...], answer: str) -> Example:
    """The ids that sampling would give: prompt and answer are encoded apart, and never again together.

    Raises ValueError as `Tokenizer.encode_prompt`.
    """
    given, written = tokenizer.encode_prompt(prompt), [*tokenizer.encode(answer), tokenizer.eos_id]
    return Example(given + written, [False] * len(given) + [True] * len(written))


class Template(Protocol):
    """How chat turns are written."""

    @property
    def controls(self) -> tuple[str, ...]:
        """Special tokens that it needs."""
        ...

    def render(self, messages: Sequence[Message]) -> tuple[Control | str, ...]:
        """Pieces of the prompt, ending where the assistant's next turn begins. Raises ValueError for bad turns."""
        ...


class PromptTokenizer:
    """Special tokens come from a template alone: text is encoded as the characters it is made of, so untrusted text
    (a problem, a model's own answer) cannot forge a turn.

    Args:
      special: id of each special token.
      template: how chat turns are written, or None.

    Raises ValueError when the template needs a special token that there is not.
    """

    def __init__(self, special: Mapping[str, int], template: Template | None):
        self._special = dict(special)
        self._special_ids = frozenset(special.values())
        self._template = self._checked(template)

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The special tokens' texts."""
        return tuple(self._special)

    def encode(self, text: str) -> list[int]:
        """Ids of a plain text; nothing is added."""
        raise NotImplementedError

    def with_template(self: Own, template: Template) -> Own:
        """The same tokenizer with another way to write chat turns."""
        other = copy.copy(self)
        other._template = self._checked(template)
        return other

    def encode_prompt(self, prompt: str | tuple[Message, ...]) -> list[int]:
        """Ids that the policy continues: a text as it is, chat turns through the template.

        Raises ValueError for chat turns without a template, no turns, or an unknown role.
        """
        if isinstance(prompt, str):
            return self.encode_text_prompt(prompt)
        if self._template is None:
            raise ValueError("this tokenizer has no chat template; give the prompt as a plain text")
        return self.encode_pieces(self._template.render(prompt))

    def encode_text_prompt(self, text: str) -> list[int]:
        """Ids of a prompt without turns; a kind whose models expect a first token puts it here."""
        return self.encode(text)

    def encode_pieces(self, pieces: Sequence[Control | str]) -> list[int]:
        """Ids of special tokens and texts, one after another."""
        return [i for piece in pieces
                for i in (self.encode(piece) if isinstance(piece, str) else [self._special[piece.token]])]

    def _checked(self, template: Template | None) -> Template | None:
        lacking = [token for token in (template.controls if template else ()) if token not in self._special]
        if lacking:
            raise ValueError(f"the chat template needs the special token {lacking[0]!r}, which the vocabulary lacks")
        return template
