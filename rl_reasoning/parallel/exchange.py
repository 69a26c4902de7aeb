"""Arrays and texts between the host and devices that may belong to several processes.

With one process these are `jax.device_put` and `jax.device_get`. With several every process calls them at the same
point, with the same values unless it says otherwise: reading an array of which others hold parts is a collective.
"""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Sharding

from rl_reasoning.parallel.hosts import Alone, Hosts


def put(tree: Any, shardings: Any) -> Any:
    """A tree's arrays on their devices, all at once where those are this process's.

    What is on this host is the same in every process, and each takes its own parts.

    Args: shardings: as the tree.
    """
    if all(sharding.is_fully_addressable for sharding in jax.tree.leaves(shardings)):
        return jax.device_put(tree, shardings)
    return jax.tree.map(_put_parts, tree, shardings)


def _put_parts(array: Any, sharding: Sharding) -> jax.Array:
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return jax.device_put(array, sharding)
    values = np.asarray(array)  # the whole, as its shape says: jax takes this process's parts of it
    return jax.make_array_from_process_local_data(sharding, values, values.shape)


def fetch(tree: Any) -> Any:
    """A tree's values on this host: numpy arrays, also of arrays that other processes hold parts of."""
    return jax.device_get(jax.tree.map(whole, tree))


def whole(leaf: Any) -> Any:
    """A leaf that this process can read without the others."""
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
        return leaf
    return multihost_utils.process_allgather(leaf, tiled=True)


def texts(hosts: Hosts | Alone, own: str, phase: str) -> list[str]:
    """What each process says, by process; texts of any length."""
    if hosts.count == 1:
        return [own]
    said = own.encode()
    sizes = hosts.meet(phase, hosts.step, len(said))
    padded = np.zeros(1 << max(sizes).bit_length(), np.uint8)  # few shapes, so that few programs are compiled
    padded[:len(said)] = np.frombuffer(said, np.uint8)
    every = multihost_utils.process_allgather(padded)
    return [bytes(row[:size]).decode() for row, size in zip(every, sizes, strict=True)]


def from_first(hosts: Hosts | Alone, values: Any, like: Any) -> Any:
    """A tree of numpy arrays that process 0 has, on every host, to the last bit.

    Args: values: None in the others. like: a tree of anything with shape and dtype.
    """
    if hosts.count == 1:
        return values
    leaves = jax.tree.leaves(like)
    own = jax.tree.leaves(values) if hosts.is_first else [np.zeros(leaf.shape, leaf.dtype) for leaf in leaves]
    # As bytes: sums of floating-point numbers would turn -0.0 into 0.0.
    sent = [multihost_utils.broadcast_one_to_all(np.frombuffer(np.asarray(array).tobytes(), np.uint8)) for array in own]
    found = [np.frombuffer(np.asarray(part).tobytes(), leaf.dtype).reshape(leaf.shape)
             for part, leaf in zip(sent, leaves, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(like), found)
