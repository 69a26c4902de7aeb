"""Stop strings: where an answer's text first holds one."""

import dataclasses
from collections.abc import Callable, Sequence


@dataclasses.dataclass(frozen=True)
class StopStrings:
    """Texts that end an answer. They are looked for in the text, so it does not matter how they fall into tokens.

    strings: what ends an answer. decode: ids to text.
    """

    strings: tuple[str, ...]
    decode: Callable[[Sequence[int]], str]

    def __post_init__(self) -> None:
        if not all(self.strings):
            raise ValueError(f"sampling.stop={self.strings}: every stop string must have a character")

    def length(self, ids: Sequence[int]) -> int | None:
        """The fewest tokens whose text holds a stop string, or None when the whole text does not."""
        if not self._found(ids):
            return None
        return next(length for length in range(1, len(ids) + 1) if self._found(ids[:length]))

    def _found(self, ids: Sequence[int]) -> bool:
        text = self.decode(ids)
        return any(string in text for string in self.strings)
