"""Chat templates of model folders: Jinja programs, run in a sandbox.

What is covered: a template reaches no attribute that is private, no module and no file, changes no argument, and
makes no text above `MOST_CHARACTERS`; ranges, products and powers are bounded. What is not: a template that
loops over its own long text can still burn time.
"""

import dataclasses
import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rl_reasoning.tokenizers.chat import Control, check_turns
from rl_reasoning.types import Message

MOST_CHARACTERS = 2**22
_GUARD, _END = "\ue000", "\ue001"  # private use: stand around the number of a token that a text spells


@dataclasses.dataclass(frozen=True)
class JinjaTemplate:
    """The template of a tokenizer_config.json or chat_template.jinja.

    Attributes:
      source: the Jinja program.
      specials: every special token. Those in the template's own words become controls; a text that spells one
        stays text.
      variables: what the template may read besides the turns: bos_token, eos_token, enable_thinking, ...

    Templates get no clock: one that asks for the date is given the date it has as its own default, so that prompts
    are the same tomorrow.
    """

    source: str
    specials: tuple[str, ...]
    variables: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    controls: tuple[str, ...] = ()

    def render(self, messages: Sequence[Message]) -> tuple[Control | str, ...]:
        """Pieces of the prompt, ending where the assistant's next turn begins.

        Raises:
          ValueError: no turns, an unknown role, or a template that is no Jinja, fails, refuses the turns, or does
            what the sandbox forbids.
          ImportError: jinja2 is not installed.
        """
        check_turns(messages)
        turns = [{"role": message.role, "content": self._guarded(message.content)} for message in messages]
        return self._pieces(self._run(messages=turns, add_generation_prompt=True))

    def _run(self, **values: Any) -> str:
        jinja2 = _jinja2()
        given = {"tools": None, "documents": None} | dict(self.variables) | values
        failures = (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError, RecursionError)
        parts, size = [], 0
        try:
            for part in _program(self.source).generate(given):
                parts.append(part)
                size += len(part)
                if size > MOST_CHARACTERS:
                    raise ValueError(f"it makes more than {MOST_CHARACTERS} characters")
        except failures as error:
            raise ValueError(f"the chat template starting {self.source[:40]!r} failed: {error}") from error
        return "".join(parts)

    @functools.cached_property
    def _words(self) -> tuple[str, ...]:
        return (_GUARD, *self.specials)

    def _guarded(self, text: str) -> str:
        """The text with what spells a special token written as its number."""
        return _alternatives(self._words).sub(lambda found: f"{_GUARD}{self._words.index(found[0])}{_END}", text)

    def _pieces(self, text: str) -> tuple[Control | str, ...]:
        pieces: list[Control | str] = []
        for i, part in enumerate(_alternatives(self.specials).split(text)):
            if i % 2:
                pieces.append(Control(part))
            elif part:
                pieces.append(re.sub(f"{_GUARD}([0-9]+){_END}", lambda found: self._words[int(found[1])], part))
        return tuple(pieces)


@functools.cache
def _alternatives(words: tuple[str, ...]) -> re.Pattern[str]:
    """Matches one of the words, the longest first, as a group; nothing where there are none."""
    ordered = sorted(words, key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, ordered)) + ")" if ordered else r"((?!))")


def _jinja2() -> Any:
    try:
        import jinja2.ext
        import jinja2.sandbox
    except ImportError as error:
        raise ImportError("chat templates need jinja2: pip install -e '.[lm]'") from error
    return jinja2


@functools.cache
def _program(source: str) -> Any:
    """The template, parsed once: that costs a hundred times what rendering does."""
    return _environment().from_string(source)


@functools.cache
def _environment() -> Any:
    """What transformers offers a template, less the clock, in a sandbox with bounded operators."""
    jinja2: Any = _jinja2()

    class Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"*", "**"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if not _small(operator, left, right):
                raise jinja2.exceptions.SecurityError(f"{operator} with operands this large is not allowed")
            return super().call_binop(context, operator, left, right)

    class Generation(jinja2.ext.Extension):
        """{% generation %} marks the assistant's words; its inside is written as it is."""

        tags = frozenset({"generation"})

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuser(jinja2.exceptions.TemplateError)
    return environment


def _small(operator: str, left: Any, right: Any) -> bool:
    """Whether a product or power stays small, of numbers or of a text and a number."""
    sizes = [abs(value) if isinstance(value, int | float) else len(value) for value in (left, right)]
    if operator == "**":
        return sizes[0] < 2**31 and sizes[1] <= 32
    return sizes[0] * sizes[1] <= 2**62 if all(isinstance(value, int | float) for value in (left, right)) else \
        sizes[0] * sizes[1] <= MOST_CHARACTERS


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None,
             sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuser(kind: type[Exception]) -> Callable[[str], None]:
    def refuse(message: str) -> None:
        raise kind(message)

    return refuse
