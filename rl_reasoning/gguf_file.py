"""The GGUF container: metadata and the list of tensors, read without trusting the file.

Every length is checked against what is left of the file before anything is allocated or looped over, so
a cut or forged file costs one clear error and not the memory of the machine. The values of tensors are
decoded in `rl_reasoning.models.gguf`; the tokenizer needs the metadata alone.

Format: version 2 and 3 of the specification in the ggml project, little-endian.
"""

import dataclasses
import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_DIMENSIONS = 4
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8",
            12: "<f8"}


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies. `shape` is row-major, [out, in] for a linear layer; `start` is a byte of the file."""

    name: str
    shape: tuple[int, ...]
    kind: int
    start: int


@dataclasses.dataclass(frozen=True)
class GGUFFile:
    """A file's metadata and tensors by name. Arrays of numbers are numpy arrays, arrays of strings are lists."""

    path: Path
    size: int
    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """Metadata at `key`, or the default. Raises ValueError when it is of another type, or missing without one."""
        value = self.metadata.get(key, default)
        if value is None:
            raise ValueError(f"{self.path}: metadata {key!r} is missing")
        if not isinstance(value, kind):
            raise ValueError(f"{self.path}: metadata {key!r} is {str(value)[:40]!r}; {kind.__name__} expected")
        return value

    def tensor_bytes(self, tensor: TensorInfo, count: int) -> np.ndarray:
        """The `count` bytes of a tensor, as a read-only map of the file [count] uint8.

        Raises ValueError when the file ends before the tensor does.
        """
        if tensor.start + count > self.size:
            raise ValueError(f"{self.path}: truncated: tensor {tensor.name} needs bytes {tensor.start} to "
                             f"{tensor.start + count}, and the file has {self.size}; fetch it again")
        return np.memmap(self.path, dtype=np.uint8, mode="r", offset=tensor.start, shape=(count,))


def read(path: str | Path) -> GGUFFile:
    """Reads the header of a GGUF file.

    Raises:
      ValueError: not a GGUF file, an unknown version, a truncated or damaged header; one line, names the file.
      OSError: the file cannot be opened.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the path of a .gguf file")
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError(f"{path} is not a GGUF file: it does not start with {MAGIC.decode()}")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                metadata, tensors = _header(_Cursor(data))
            except ValueError as error:
                raise ValueError(f"{path} is not a readable GGUF file: {error}") from error
            return GGUFFile(path, len(data), metadata, tensors)


class _Cursor:
    """A place in the header that only moves forward, and never past the end."""

    def __init__(self, data: mmap.mmap):
        self._data = data
        self.offset = len(MAGIC)

    def take(self, count: int) -> bytes:
        left = len(self._data) - self.offset
        if count > left:
            raise ValueError(f"truncated or damaged: {count} bytes expected at byte {self.offset}, {left} left")
        self.offset += count
        return self._data[self.offset - count:self.offset]

    def number(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8")


def _header(cursor: _Cursor) -> tuple[dict[str, Any], dict[str, TensorInfo]]:
    version = cursor.number("I")
    if version not in VERSIONS:
        raise ValueError(f"version {version} (or another byte order); {VERSIONS} little-endian are known")
    tensor_count, entry_count = cursor.number("Q"), cursor.number("Q")
    metadata: dict[str, Any] = {}
    for _ in range(entry_count):
        key = cursor.text()
        if key in metadata:
            raise ValueError(f"metadata {key!r} appears twice")
        metadata[key] = _value(cursor, cursor.number("I"))
    return metadata, _tensors(cursor, tensor_count, metadata.get("general.alignment", 32))


def _value(cursor: _Cursor, kind: int) -> Any:
    """One metadata value."""
    if kind == _STRING:
        return cursor.text()
    if kind == _ARRAY:
        kind, count = cursor.number("I"), cursor.number("Q")
        if kind == _STRING:
            return [cursor.text() for _ in range(count)]
        return np.frombuffer(cursor.take(count * _scalar(kind).itemsize), _scalar(kind))
    dtype = _scalar(kind)
    return np.frombuffer(cursor.take(dtype.itemsize), dtype)[0].item()


def _scalar(kind: int) -> np.dtype:
    if kind not in _SCALARS:
        raise ValueError(f"metadata of type {kind}; known are strings, numbers and arrays of them")
    return np.dtype(_SCALARS[kind])


def _tensors(cursor: _Cursor, count: int, alignment: Any) -> dict[str, TensorInfo]:
    """The tensor list. Offsets in the file count from the first aligned byte after the header."""
    entries = [_tensor_entry(cursor) for _ in range(count)]
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"general.alignment is {alignment!r}, not a power of two")
    first = -(-cursor.offset // alignment) * alignment
    tensors = {entry.name: dataclasses.replace(entry, start=first + entry.start) for entry in entries}
    if len(tensors) != len(entries):
        raise ValueError("two tensors have the same name")
    return tensors


def _tensor_entry(cursor: _Cursor) -> TensorInfo:
    """One line of the tensor list, its offset not yet counted from the start of the file."""
    name, dimensions = cursor.text(), cursor.number("I")
    if dimensions > MOST_DIMENSIONS:
        raise ValueError(f"tensor {name[:60]!r} has {dimensions} dimensions, at most {MOST_DIMENSIONS} are allowed")
    shape = tuple(cursor.number("Q") for _ in range(dimensions))[::-1]
    return TensorInfo(name, shape, kind=cursor.number("I"), start=cursor.number("Q"))
