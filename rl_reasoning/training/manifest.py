"""What a checkpoint's folder must hold, byte for byte: a manifest of every file and array, sealed by a marker.

    arrays/        the arrays, as Orbax writes them
    record.json    what else was kept, and the digest of every file below arrays/ and of every array
    COMMIT         the digest of record.json, written last: without it nothing counts

Orbax writes atomically and checks no content: a flipped bit is restored as a wrong weight. Here every file is read
and its digest compared before Orbax opens any, so damage is found and named, and so is what does not belong.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rl_reasoning.json_file import read_json

ARRAYS, RECORD, COMMIT = "arrays", "record.json", "COMMIT"
FORMAT = 1
_CHUNK = 2**22
# Orbax's own files beside the arrays, and room for compression that makes noise longer.
_SPARE_BYTES, _SPARE_SHARE = 2**24, 1.25


class Damaged(ValueError):
    """A folder that is not, byte for byte, the checkpoint that was saved."""


def leaves(tree: Any) -> dict[str, Any]:
    """A tree's leaves by dotted name, such as "parameters.policy.layers.norm".

    Raises:
      ValueError: two leaves have one name.
    """
    found: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if name in found:
            raise ValueError(f"two arrays are called {name}: a checkpoint cannot tell them apart")
        found[name] = leaf
    return found


def digest(array: np.ndarray) -> str:
    """SHA-256 of an array's type, shape and bytes."""
    said = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
    said.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return said.hexdigest()


def seal(folder: Path, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> int:
    """Writes record.json and then the marker into a folder whose arrays are written; returns its bytes.

    All of it is with the disk, and not only with the operating system, when the call returns.
    """
    files = {path.relative_to(folder).as_posix(): _file_facts(path, flush=True) for path in _files(folder)}
    content = {"format": FORMAT, **record, "files": files, "arrays": {
        name: {"shape": list(array.shape), "dtype": str(array.dtype), "sha256": digest(array)}
        for name, array in arrays.items()}}
    _write(folder / RECORD, json.dumps(content, indent=1, allow_nan=False) + "\n")
    _write(folder / COMMIT, _file_facts(folder / RECORD, flush=False)["sha256"] + "\n")
    flush_folder(folder)
    return sum(facts["bytes"] for facts in files.values())


def read(folder: Path) -> dict[str, Any]:
    """A checkpoint's record, when the marker vouches for it.

    Raises:
      FileNotFoundError: there is no such folder.
      Damaged: the marker is missing, or the record is not the one that it was made for.
    """
    if not folder.is_dir() or folder.is_symlink():
        raise FileNotFoundError(f"{folder} is not there")
    for name in (COMMIT, RECORD):
        if not _is_file(folder / name):
            raise Damaged(f"{folder / name} is missing: the save did not end, or the file was deleted")
    try:
        marker = (folder / COMMIT).read_bytes()[:80].decode("ascii", errors="replace")
        if not re.fullmatch(r"[0-9a-f]{64}\n", marker):
            raise ValueError(f"{folder / COMMIT} holds no digest")
        if _file_facts(folder / RECORD, flush=False)["sha256"] != marker.strip():
            raise ValueError(f"{folder / RECORD} is not what {COMMIT} was written for")
        record = read_json(folder / RECORD)
    except ValueError as error:
        raise Damaged(str(error)) from error
    if record.get("format") != FORMAT:
        raise Damaged(f"{folder / RECORD} has format {record.get('format')!r}; this version reads {FORMAT}")
    return record


def check_files(folder: Path, record: Mapping[str, Any], most_bytes: int) -> None:
    """Compares every file below arrays/ with the record; reads them and allocates nothing of their size.

    Args: most_bytes: of the arrays that are expected; files much larger than that are not read at all.
    Raises Damaged, naming the file: changed, missing, not in the record, a link or device, or too large.
    """
    expected, found = record.get("files"), {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    if not isinstance(expected, dict):
        raise Damaged(f"{folder / RECORD} lists no files")
    for name in sorted(set(expected) ^ set(found)):
        raise Damaged(f"{folder / name} is " + ("not one of this checkpoint's files" if name in found else "missing"))
    size = sum(path.stat().st_size for path in found.values())
    if size > most_bytes * _SPARE_SHARE + _SPARE_BYTES:
        raise Damaged(f"{folder} holds {size} bytes of arrays; those that are expected have {most_bytes}")
    for name, path in found.items():
        if _file_facts(path, flush=False) != expected[name]:
            raise Damaged(f"{path} has changed since it was saved")


def _files(folder: Path) -> list[Path]:
    """The regular files below arrays/. Raises Damaged on anything that is neither a file nor a folder."""
    found: list[Any] = []
    for parent, folders, names in os.walk(folder / ARRAYS, followlinks=False):
        for path in (Path(parent, name) for name in (*folders, *names)):
            if path.is_symlink() or not (path.is_dir() or _is_file(path)):
                raise Damaged(f"{path} is no regular file: links and devices are not read")
        found.extend(Path(parent, name) for name in names)
    return sorted(found)


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _file_facts(path: Path, *, flush: bool) -> dict[str, Any]:
    said, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            said.update(chunk)
            size += len(chunk)
        if flush:
            os.fsync(file.fileno())
    return {"bytes": size, "sha256": said.hexdigest()}


def _write(path: Path, text: str) -> None:
    with path.open("x", encoding="ascii", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def flush_folder(path: Path) -> None:
    """Makes a folder's names durable, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        return  # some network file systems have no such thing
    finally:
        os.close(descriptor)
