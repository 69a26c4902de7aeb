"""Plain text to train on: documents joined to one stream of tokens, cut into windows, served as a Grain dataset."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence

import grain
import numpy as np

from rl_reasoning.data.sources import BadRow, find_file, read_rows

MOST_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Text:
    """The tokens of some documents, each ended by the end of sequence.

    Attributes:
      tokens: [S] int32, all documents one after another.
      documents: how many there are.
      bad: rows without a text, which were skipped.
    """

    tokens: np.ndarray
    documents: int
    bad: tuple[BadRow, ...]

    def lines(self) -> list[str]:
        """What a person is told: counts, and the first skipped rows by line."""
        told = f"text: {self.documents:,} documents, {len(self.tokens):,} tokens, {len(self.bad)} rows skipped"
        return [told, *(f"  skipped {row}" for row in self.bad[:MOST_SHOWN])]


def read_text(sources: Sequence[str], encode: Callable[[str], list[int]], eos_id: int) -> Text:
    """Reads and encodes documents: a .txt file is one, and so is each `text` of the rows that `read_rows` reads.

    Raises:
      ValueError: a file that is no UTF-8, a document that the tokenizer cannot write, or no document at all.
      FileNotFoundError, ImportError: see `read_rows`.
    """
    parts, bad = [], []
    for source in sources:
        for found in _documents(source):
            if isinstance(found, BadRow):
                bad.append(found)
                continue
            place, text = found
            try:
                parts.append([*encode(text), eos_id])
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from error
    if not parts:
        first = f"; the first row: {bad[0]}" if bad else ""
        raise ValueError(f"there is no document in {', '.join(sources)}{first}: give .txt files, or rows with a "
                         "column 'text'")
    return Text(np.concatenate([np.asarray(part, np.int32) for part in parts]), len(parts), tuple(bad))


def windows(text: Text, length: int, batch: int, seed: int) -> grain.MapDataset:
    """`windows[step]` is a list of `batch` runs of 2 to `length` tokens.

    A window begins with the last token of the one before, as context: so each token but the stream's first is
    predicted once an epoch. Each epoch has its own order.

    Args: length: tokens of a window, at least 2.
    """
    def cut(start: int) -> np.ndarray:
        return text.tokens[start:start + length]

    starts = range(0, len(text.tokens) - 1, length - 1)
    return grain.MapDataset.source(starts).seed(seed).shuffle().repeat().map(cut).batch(batch, batch_fn=list)


def require_files(sources: Sequence[str]) -> None:
    """Raises FileNotFoundError when one that is named as a file is not there; reads none."""
    for source in sources:
        if ":" not in source:
            find_file(source)


def digest(sources: Sequence[str]) -> dict[str, str]:
    """A digest of each file's bytes; what is named and not a file here stands for itself."""
    return {source: source if ":" in source else hashlib.sha256(find_file(source).read_bytes()).hexdigest()[:16]
            for source in sources}


def _documents(source: str) -> Iterator[tuple[str, str] | BadRow]:
    """(where it stands, text) of each document."""
    if source.endswith(".txt"):
        try:
            text = find_file(source).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{source} is no UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}; "
                             "convert it, as in iconv -t utf-8") from error
        yield (source, text) if text.strip() else BadRow(source, 1, "an empty text")
        return
    for row in read_rows(source):
        if isinstance(row, BadRow):
            yield row
            continue
        number, record = row
        column = record.get("text")
        if isinstance(column, str) and column.strip():
            yield f"{source}:{number}", column
        else:
            columns = ", ".join(list(record)[:12])
            yield BadRow(source, number, "an empty text" if "text" in record else f"no column 'text' among {columns}")
