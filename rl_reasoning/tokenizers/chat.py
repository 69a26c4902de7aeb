"""Chat turns to the pieces of a prompt, without running anybody's template code.

ChatML and plain dialogue as data, and the named prompt formats of papers. A GGUF file's template is not
executed: it is recognised by its digest. Templates of Hugging Face folders run in `tokenizers.jinja`.
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
      default_system: content of the system turn that is put first when the chat does not start with one; None
        puts none.
      request: what is added to the last turn of the user.
      opening: the first words of the assistant's next turn, which the policy does not write itself.
    """

    default_system: str | None = None
    request: str = ""
    opening: str = ""
    controls: tuple[str, ...] = ("<|im_start|>", "<|im_end|>")

    def render(self, messages: Sequence[Message]) -> tuple[Control | str, ...]:
        """Pieces of the prompt, ending where the assistant's next words begin.

        Raises ValueError when there are no turns or a role is unknown.
        """
        check_turns(messages)
        if messages[0].role != "system" and self.default_system is not None:
            messages = (Message("system", self.default_system), *messages)
        pieces = [piece for message in _with_request(messages, self.request) for piece in _turn(message)]
        return (*pieces, Control("<|im_start|>"), f"assistant\n{self.opening}")


@dataclasses.dataclass(frozen=True)
class Dialogue:
    """A plain text: an instruction, then "User: ..." and "Assistant: ..." for each turn; no special tokens.

    A system turn of the chat takes the place of the instruction.
    """

    instruction: str
    opening: str = ""
    controls: tuple[str, ...] = ()

    def render(self, messages: Sequence[Message]) -> tuple[Control | str, ...]:
        """One piece, as `ChatML.render`."""
        check_turns(messages)
        names = {"system": "", "user": "User: ", "assistant": "Assistant: "}
        lines = [names[message.role] + message.content for message in messages]
        if messages[0].role != "system":
            lines.insert(0, self.instruction)
        return ("\n".join([*lines, f"Assistant:{self.opening}"]),)


BOXED = "Please reason step by step, and put your final answer within \\boxed{}."  # the request of most work on maths
# The prompts that papers trained with, by name; "template" in the settings is the model's own.
FORMATS: dict[str, ChatML | Dialogue] = {
    # arXiv 2506.01347 and most work on Qwen2.5-Math.
    "qwen_boxed": ChatML("You are a helpful assistant.", request=f"\n{BOXED}"),
    # Qwen3: the model opens <think> itself, or finds an empty thought; arXiv 2506.01347 ends it with one newline,
    # where the model's own template has two.
    "qwen3_thinking": ChatML(request=f"\n{BOXED}"),
    "qwen3_no_thinking": ChatML(request=f"\n{BOXED}", opening="<think>\n\n</think>\n"),
    # DeepSeek-R1-Zero, arXiv 2501.12948, table 1.
    "r1": Dialogue(
        "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The "
        "assistant first thinks about the reasoning process in the mind and then provides the user with the answer. "
        "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, "
        "respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>."),
}

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


def check_turns(messages: Sequence[Message]) -> None:
    """Raises ValueError when there are no turns or a role is unknown."""
    if not messages:
        raise ValueError("a chat prompt needs at least one turn")
    for message in messages:
        if message.role not in ROLES:
            raise ValueError(f"role {message.role!r} is unknown; use one of {', '.join(ROLES)}")


def _with_request(messages: Sequence[Message], request: str) -> list[Message]:
    """The turns, with the request at the end of the user's last one."""
    last = max((i for i, message in enumerate(messages) if message.role == "user"), default=-1)
    return [dataclasses.replace(message, content=message.content + request) if i == last else message
            for i, message in enumerate(messages)]


def _turn(message: Message) -> tuple[Control | str, ...]:
    return Control("<|im_start|>"), f"{message.role}\n{message.content}", Control("<|im_end|>"), "\n"
