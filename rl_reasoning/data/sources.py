"""Rows of a named source, each with its number, and the lines that are no rows.

    path.parquet, path.jsonl, path.json    files: as given, or below the folder in $RL_REASONING_DATA
    hf:OWNER/NAME/FILE                     one file of a data set on the Hugging Face hub, kept in its cache
    tfds:NAME:SPLIT                        tensorflow-datasets, prepared in its own folder ($TFDS_DATA_DIR)
"""

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = "RL_REASONING_DATA"
SUFFIXES = (".parquet", ".jsonl", ".json")


@dataclasses.dataclass(frozen=True)
class BadRow:
    """A row that cannot be used: its source, its number from 1 (the line in a text file), and why."""

    source: str
    row: int
    reason: str

    def __str__(self) -> str:
        return f"{self.source}:{self.row}: {self.reason}"


def read_rows(source: str) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """The rows of a source in order, as (number from 1, record).

    Raises:
      FileNotFoundError: there is no such file, here or on the hub; says where it was looked for.
      ValueError: a source or file of another kind, or a file that is no file of its kind.
      ImportError: a package is needed to read it.
    """
    if source.startswith("tfds:"):
        return _read_tfds(source)
    path = _from_hub(source) if source.startswith("hf:") else find_file(source)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{source!r} does not end in one of {', '.join(SUFFIXES)}")
    return _read_parquet(source, path) if path.suffix == ".parquet" else _read_json(source, path)


def find_file(source: str) -> Path:
    """The file of a path: as given, or below the data folder. Raises FileNotFoundError."""
    places = [Path(source).expanduser()]
    if folder := os.environ.get(FOLDER):
        places.append(Path(folder) / source)
    for path in places:
        if path.is_file():
            return path
    looked = " or ".join(str(path.absolute()) for path in places)
    hint = "" if folder else f"; relative paths are also looked up in the folder that ${FOLDER} names, which is not set"
    raise FileNotFoundError(f"there is no file {looked}{hint}")


def _read_parquet(source: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ImportError("parquet files need pyarrow: pip install -e '.[lm]'") from error
    try:
        table = parquet.read_table(path)
    except arrow.ArrowException as error:
        raise ValueError(f"{source} is no parquet file that can be read: {error}") from error
    number = 0
    for batch in table.to_batches(max_chunksize=1024):
        for record in batch.to_pylist():
            number += 1
            yield number, record


def _read_json(source: str, path: Path) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """JSON lines, or one JSON array of objects."""
    data = path.read_bytes()
    if data.lstrip()[:1] == b"[" and path.suffix == ".json":
        try:
            records = json.loads(data)
        except ValueError as error:
            raise ValueError(f"{source} is no JSON array: {error}") from error
        yield from (_record(source, number, record) for number, record in enumerate(records, 1))
        return
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield BadRow(source, number, f"broken JSON: {error}")
                continue
            yield _record(source, number, record)


def _record(source: str, number: int, record: Any) -> tuple[int, dict[str, Any]] | BadRow:
    if isinstance(record, dict):
        return number, record
    return BadRow(source, number, f"a {type(record).__name__} where an object was expected")


def _from_hub(source: str) -> Path:
    owner, _, rest = source.removeprefix("hf:").partition("/")
    name, _, file = rest.partition("/")
    if not (owner and name and file):
        raise ValueError(f"{source!r} is not hf:OWNER/NAME/FILE, as in hf:openai/gsm8k/main/train.parquet")
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError("hf: sources need huggingface_hub: pip install -e '.[lm]'") from error
    try:
        return Path(huggingface_hub.hf_hub_download(f"{owner}/{name}", file, repo_type="dataset"))
    except (OSError, ValueError) as error:  # no network, no such data set, no such file
        first = str(error).strip().split("\n")[0]
        raise FileNotFoundError(f"{source} is not in this machine's cache and could not be fetched ({first}): check "
                                "the name and the network, or give the path of a file") from error


def _read_tfds(source: str) -> Iterator[tuple[int, dict[str, Any]]]:
    name, _, split = source.removeprefix("tfds:").partition(":")
    if not (name and split):
        raise ValueError(f"{source!r} is not tfds:NAME:SPLIT, as in tfds:gsm8k:train")
    import tensorflow_datasets as tfds

    try:
        rows = tfds.data_source(name, split=split, data_dir=os.environ.get("TFDS_DATA_DIR"))
    except Exception as error:  # tfds raises errors of many kinds for a name, a split, a version, a network
        first = str(error).strip().split("\n")[0]
        raise FileNotFoundError(f"{source} cannot be read ({type(error).__name__}: {first}): check name and split, and "
                                "that the data set was prepared in $TFDS_DATA_DIR") from error
    for number in range(len(rows)):
        yield number + 1, _plain(rows[number])


def _plain(value: Any) -> Any:
    """Texts for bytes, and lists and numbers for arrays, as in JSON."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return _plain(value.tolist()) if hasattr(value, "tolist") else value
