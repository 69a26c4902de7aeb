"""JSON objects of files that nobody vouches for."""

import json
from pathlib import Path
from typing import Any

MOST_BYTES = 2**28


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: what `read_text` raises, no JSON, or something else than an object.
    """
    try:
        content = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; an object is expected")
    return content


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is larger than `MOST_BYTES`, or no UTF-8.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; at most {MOST_BYTES} are read")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: {error}") from error
