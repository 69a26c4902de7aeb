"""The file of an evaluation's answers while they come: whole lines survive a kill, and nothing is written twice."""

import fcntl
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rl_reasoning.reporting.json_lines import json_line, read_lines


class SampleFile:
    """Appends records to a JSON-lines file that one process holds at a time.

        with SampleFile(path) as file:
            for record in file.read(): ...     # those of an earlier, stopped process
            file.append(records)

    Raises (on entering):
      BlockingIOError: another process holds the file.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)

    def __enter__(self) -> "SampleFile":
        self._file = self.path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise BlockingIOError(f"{self.path} is being written by another process: wait for it, or end it") from error
        self._cut_torn_line()
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self) -> Iterator[dict[str, Any]]:
        """The records that are there."""
        return read_lines(self.path)

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Writes some records; they are on the disk when the call returns."""
        self._file.write("".join(map(json_line, records)).encode("ascii"))
        self._file.flush()
        os.fsync(self._file.fileno())

    def _cut_torn_line(self) -> None:
        """Cuts what a killed process left after the last newline."""
        with self.path.open("rb") as file:
            size, step = file.seek(0, os.SEEK_END), 1 << 16
            keep = size
            while keep > 0:
                start = max(0, keep - step)
                file.seek(start)
                newline = file.read(keep - start).rfind(b"\n")
                if newline >= 0:
                    keep = start + newline + 1
                    break
                keep = start
        if keep < size:
            os.truncate(self.path, keep)
