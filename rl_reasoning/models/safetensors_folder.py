"""The safetensors files of a folder as one table of tensors, read one at a time.

Nothing is unpickled and no header is trusted: the safetensors package bounds what a header may say, and names,
shapes and types are checked before the first tensor is read.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rl_reasoning.json_file import read_json

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
FLOATS = ("F64", "F32", "F16", "BF16")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


class Shards:
    """The tensors of one model, in one file or in several with an index.

    Attributes:
      shapes: shape of every tensor by name.

    Raises:
      FileNotFoundError: the folder holds no safetensors file, or the index names one that is not there.
      ValueError: a damaged file, an index and files that disagree, or a tensor that holds no floats; one line that
        names the file, and the tensor where there is one.
      ImportError: the safetensors package is not installed.
    """

    def __init__(self, folder: Path):
        self._files = _files(folder)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._homes: dict[str, Path] = {}
        for file in sorted(set(self._files.values())):
            self._list(file)
        _check_index(folder, self._files, self._homes)

    def home(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self._homes[name]

    def read(self, name: str) -> np.ndarray:
        """A tensor in its own type. Raises ValueError on a NaN or an infinity."""
        with _opened(self._homes[name]) as file:
            values = file.get_tensor(name)
        if not np.isfinite(values).all():
            raise ValueError(f"{self._homes[name]}: {name} holds a NaN or an infinity; the file is damaged")
        return values

    def _list(self, path: Path) -> None:
        with _opened(path) as file:
            names = file.keys()
            for name in names:
                part = file.get_slice(name)
                if name in self._homes:
                    raise ValueError(f"{path}: {name} is in {self._homes[name].name} too")
                if part.get_dtype() not in FLOATS:
                    raise ValueError(f"{path}: {name} has type {part.get_dtype()}; {', '.join(FLOATS)} can be read")
                self.shapes[name], self._homes[name] = tuple(part.get_shape()), path


def _files(folder: Path) -> dict[str, Path]:
    """The file of each tensor that the index lists, or the single file under an empty name."""
    if (folder / INDEX).is_file():
        return _indexed(folder, read_json(folder / INDEX).get("weight_map"))
    if (folder / SINGLE).is_file():
        return {"": folder / SINGLE}
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLED)
    if pickled:
        raise ValueError(f"{folder} holds {pickled[0]} and no {SINGLE}: pickled weights can run code and are never "
                         "read; save the model as safetensors")
    raise FileNotFoundError(f"{folder} holds neither {SINGLE} nor {INDEX}")


def _indexed(folder: Path, weights: Any) -> dict[str, Path]:
    if not isinstance(weights, dict) or not weights or not all(isinstance(name, str) for name in weights.values()):
        raise ValueError(f"{folder / INDEX}: weight_map must give a file's name for each tensor")
    for name, file in weights.items():
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise ValueError(f"{folder / INDEX}: {name} is in {file!r}, which is no name of a safetensors file")
        if not (folder / file).is_file():
            raise FileNotFoundError(f"{folder / file} is not there; {INDEX} says that it holds {name}")
    return {name: folder / file for name, file in weights.items()}


def _check_index(folder: Path, listed: dict[str, Path], found: dict[str, Path]) -> None:
    if "" in listed:
        return
    for name, file in listed.items():
        if found.get(name) != file:
            raise ValueError(f"{file}: {name} is not in it; {INDEX} says that it is")
    for name in found:
        if name not in listed:
            raise ValueError(f"{found[name]}: {name} is not listed in {folder / INDEX}")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ImportError("reading safetensors needs the safetensors package: pip install -e '.[lm]'") from error
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path} is cut off, damaged or no safetensors file: {error}") from error
