"""Chat turns to the pieces of a prompt, without running anybody's template code.

A model file carries its chat template as a Jinja program. A program from a file is not executed here: the
templates that are known are written as plain functions, and a file's template is recognised by its digest.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

from rl_reasoning.types import Message

ROLES = ("system", "user", "assistant")


@dataclasses.dataclass(frozen=True)
class Control:
    """A special token of the template, by its name. Text never becomes one, whatever it spells."""

    token: str


@dataclasses.dataclass(frozen=True)
class ChatML:
    """ChatML: each turn is <|im_start|>role, a newline, the content, <|im_end|>, a newline.

    Attributes:
      default_system: content of the system turn that is put first when the chat does not start with one.
    """

    default_system: str
    controls = ("<|im_start|>", "<|im_end|>")

    def render(self, messages: Sequence[Message]) -> tuple[Control | str, ...]:
        """Pieces of the prompt, ending where the assistant's next turn begins.

        Raises ValueError when there are no turns or a role is unknown.
        """
        if not messages:
            raise ValueError("a chat prompt needs at least one turn")
        if messages[0].role != "system":
            messages = (Message("system", self.default_system), *messages)
        pieces = [piece for message in messages for piece in _turn(message)]
        return (*pieces, Control("<|im_start|>"), "assistant\n")


CHAT_TEMPLATES = {
    "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788": ChatML(  # SmolLM2-Instruct
        default_system="You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
}


def recognise(template: str) -> ChatML:
    """The known equivalent of a file's Jinja chat template. Raises ValueError for one that is not known."""
    digest = hashlib.sha256(template.encode()).hexdigest()
    if digest not in CHAT_TEMPLATES:
        raise ValueError(f"the chat template starting {template[:60]!r} (sha256 {digest[:12]}) is not known, and "
                         f"templates are not executed; the one of SmolLM2-Instruct is known")
    return CHAT_TEMPLATES[digest]


def _turn(message: Message) -> tuple[Control | str, ...]:
    if message.role not in ROLES:
        raise ValueError(f"role {message.role!r} is unknown; use one of {', '.join(ROLES)}")
    return Control("<|im_start|>"), f"{message.role}\n{message.content}", Control("<|im_end|>"), "\n"
