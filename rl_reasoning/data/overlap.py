"""Problems that training and evaluation share: the same text, or 13 words in a row."""

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Sequence

from rl_reasoning.types import Problem

WORDS = 13

_WORD = re.compile(r"\w+")


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Ids of training problems that are in the held-out set, and of those that share `WORDS` words with one of it."""

    exact: tuple[str, ...]
    partial: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.exact or self.partial)

    def line(self, train: int, held_out: int) -> str:
        """What a person is told."""
        return (f"overlap of {train:,} training and {held_out:,} held-out problems: {len(self.exact)} with the same "
                f"text, {len(self.partial)} more with {WORDS} words in a row")


def find_overlap(train: Sequence[Problem], held_out: Sequence[Problem]) -> Overlap:
    """Compares the questions, in lower case and word by word, without marks of punctuation."""
    texts = {_digest(_words(problem)) for problem in held_out}
    grams = {gram for problem in held_out for gram in _grams(_words(problem))}
    exact, partial = [], []
    for problem in train:
        words = _words(problem)
        if _digest(words) in texts:
            exact.append(problem.id)
        elif any(gram in grams for gram in _grams(words)):
            partial.append(problem.id)
    return Overlap(tuple(exact), tuple(partial))


def _words(problem: Problem) -> list[str]:
    return _WORD.findall(problem.metadata["question"].lower())


def _grams(words: Sequence[str]) -> Iterator[bytes]:
    return (_digest(words[i:i + WORDS]) for i in range(len(words) - WORDS + 1))


def _digest(words: Sequence[str]) -> bytes:
    return hashlib.blake2b(" ".join(words).encode(errors="surrogatepass"), digest_size=12).digest()
