"""From single tensors of a file to a decoder's stacked parameters, one at a time.

The host holds one stacked weight in the type it will have, and the tensor that is being read. A weight goes
to its devices before the next is begun.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import ml_dtypes
import numpy as np

from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.models.decoder import Parameters, initialize
from rl_reasoning.models.quantized import quantize

Path = tuple[str, ...]
Read = Callable[[Path, int], np.ndarray]
Place = Callable[[Path, np.ndarray], jax.Array]
TYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16), "int8": np.dtype(np.int8)}
_ALIGNMENT = 64  # so that a CPU device takes the host's memory as it is instead of copying it


def expected(config: DecoderConfig) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """(path, shape) of every weight of the decoder, layers not stacked; ("layers", ...) come once for all layers."""
    shapes = jax.eval_shape(lambda: initialize(config.plain(), jax.random.key(0)))
    for keys, spec in jax.tree_util.tree_leaves_with_path(shapes):
        path = tuple(str(key.key) for key in keys)
        yield path, spec.shape[1:] if path[0] == "layers" else spec.shape


def assemble(config: DecoderConfig, read: Read, place: Place | None = None) -> Parameters:
    """Parameters of the decoder without adapters.

    Args:
      read: gives the tensor of a path (kernels [in, out]) in a layer, in any float type; what it raises passes.
      place: puts a finished weight on its devices; the default device otherwise.
    """
    place = place or (lambda path, array: jax.device_put(array))
    parameters: Parameters = {}
    for path, shape in expected(config):
        layers = config.layers if path[0] == "layers" else 0
        for name, array in _weight(config, path, (layers, *shape), read).items():
            _put(parameters, (*path[:-1], name), place((*path[:-1], name), array))
    return parameters


def _weight(config: DecoderConfig, path: Path, shape: tuple[int, ...], read: Read) -> dict[str, np.ndarray]:
    """One weight on the host by its last name; an int8 kernel comes with its scale. shape: layers first, 0 for none."""
    layers, *rest = shape
    precision, name = config.precision, path[-1]
    if not layers:
        return {name: _filled(_aligned(rest, TYPES[precision.others]), read(path, 0))}
    if name != "kernel" or precision.parameters != "int8":
        stacked = _aligned(shape, TYPES[precision.others])
        for layer in range(layers):
            _filled(stacked[layer], read(path, layer))
        return {name: stacked}
    kernels, scales = _aligned(shape, TYPES["int8"]), _aligned((layers, rest[-1]), TYPES["float32"])
    for layer in range(layers):
        kernels[layer], scales[layer] = quantize(read(path, layer))
    return {"kernel": kernels, "scale": scales}


def _filled(target: np.ndarray, values: np.ndarray) -> np.ndarray:
    target[...] = values
    return target


def _aligned(shape: tuple[int, ...] | list[int], dtype: np.dtype) -> np.ndarray:
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start:start + size].view(dtype).reshape(shape)


def _put(tree: dict[str, Any], path: Path, value: jax.Array) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value
