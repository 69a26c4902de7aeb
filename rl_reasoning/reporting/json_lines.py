"""Files of JSON lines that a killed process can have cut at any byte.

JSON has no NaN and no infinity: both are written as null. All text is ASCII with \\u escapes, so a file does not depend
on the locale and any text of a model survives. Each line is one write, a cut last line is dropped with a warning that
names the file, and whole files are written aside and moved into place.
"""

import json
import logging
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

_log = logging.getLogger(__name__)


def plain(value: Any) -> Any:
    """`value` with numpy numbers as Python's, tuples as lists, and numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_line(record: Mapping[str, Any]) -> str:
    """A record as one line; numbers that are not finite become null."""
    return json.dumps(plain(record), allow_nan=False) + "\n"


def read_lines(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The records of a JSON-lines file; a cut last line is named in a warning and left out.

    Raises:
      ValueError: a line before the last is broken; the message names file and line.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                record = json.loads(line)
            except ValueError as error:
                if line.endswith(b"\n"):
                    raise ValueError(
                        f"{path}, line {number} is no JSON ({error}): repair or remove that line"
                    ) from error
                _log.warning("%s, line %d was cut short, as by a killed process, and is left out", path, number)
                return
            yield record


def append(path: pathlib.Path, record: Mapping[str, Any]) -> None:
    """Adds a line, after what is cut of the last one."""
    _mend_tail(path)
    with path.open("ab") as file:
        file.write(json_line(record).encode("ascii"))


def keep_lines(path: pathlib.Path, wanted: Callable[[Mapping[str, Any]], bool]) -> None:
    """Drops the other records."""
    if path.exists():
        write_whole(path, [json_line(record) for record in read_lines(path) if wanted(record)])


def write_whole(path: pathlib.Path, lines: Iterable[str]) -> None:
    """Writes a file so that its path never holds a part of it."""
    aside = path.with_name(path.name + ".part")
    with aside.open("w", encoding="ascii", newline="\n") as file:
        file.writelines(lines)
    os.replace(aside, path)


def _mend_tail(path: pathlib.Path) -> None:
    """Cuts what a killed process left after the last newline, or the next line would be glued to it."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
    keep_lines(path, lambda record: True)
