"""A policy's weights as the decode engine holds them, and a fingerprint that tells whether they are the trainer's."""

import dataclasses
import functools
import time
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from rl_reasoning.models.decoder import DecoderConfig, Parameters, unstack_layers
from rl_reasoning.parallel import Layout
from rl_reasoning.parallel.exchange import put
from rl_reasoning.parallel.rules import TENSOR


class StaleWeights(RuntimeError):
    """An engine sampled from other weights than it was given."""


class Fresh:
    """Asks whether an engine holds what it was given. Arrays do not change, so each update's are hashed once."""

    def __init__(self) -> None:
        self._of: list[weakref.ref] = []
        self._known = 0

    def check(self, held: int | None, parameters: Parameters) -> None:
        """Raises StaleWeights when what an engine holds is not what it was given.

        Args: held: the engine's fingerprint; None, of an engine that cannot tell, passes.
        """
        if held is None:
            return
        if not _are(self._of, parameters):
            self._known, self._of = fingerprint(parameters), _references(parameters)
        if held != self._known:
            raise StaleWeights(f"the engine sampled from weights with the fingerprint {held:08x}, and the policy's "
                               f"have {self._known:08x}: it did not take over the latest ones; its answers must not "
                               "be trained on")


def _references(parameters: Parameters) -> list[weakref.ref]:
    return [weakref.ref(leaf) for leaf in jax.tree.leaves(parameters)]


def _are(known: list[weakref.ref], parameters: Parameters) -> bool:
    """Whether these are the very arrays."""
    leaves = jax.tree.leaves(parameters)
    return len(leaves) == len(known) and all(one() is leaf for one, leaf in zip(known, leaves, strict=True))


class Weights:
    """The weights of the latest parameters, one list entry a layer.

    They are taken over once for each new set of parameters: slices of stacked layers are copies, which must not be made
    again for every rollout, let alone for every token.
    """

    def __init__(self, config: DecoderConfig, layout: Layout | None = None):
        """On the devices of a layout, see `shardings`, or where the parameters are."""
        self._config, self._layout = config, layout
        self.moved_bytes, self.moved_seconds = 0, 0.0
        self._source: list[weakref.ref] = []
        self._held: Parameters | None = None
        self._known: int | None = None

    def of(self, parameters: Parameters) -> Parameters:
        """The weights of these parameters, with `layers` as a list."""
        if self._held is None or not _are(self._source, parameters):
            # The old weights go before the new ones come: less memory.
            self._held, self._known, self._source = None, None, []
            self._held = _layered(self._config, self._moved(parameters))
            self._source = _references(parameters)
        return self._held

    def _moved(self, parameters: Parameters) -> Parameters:
        """The parameters on the layout, by resharding, whose time is kept."""
        if self._layout is None:
            return parameters
        began = time.perf_counter()
        moved = jax.block_until_ready(put(parameters, shardings(self._layout, parameters)))
        self.moved_seconds += time.perf_counter() - began
        self.moved_bytes += sum(leaf.nbytes for leaf in jax.tree.leaves(parameters))
        return moved

    @property
    def fingerprint(self) -> int | None:
        """`fingerprint` of what is held; None before anything is."""
        if self._known is None and self._held is not None:
            self._known = fingerprint(self._held)
        return self._known


def shardings(layout: Layout, parameters: Any) -> Any:
    """Where weights lie while tokens are drawn: split so that none has to be gathered for a token.

    By heads, MLP and vocabulary, and not along `fsdp`, which splits rows alone. The embedding is split by width: one
    that is split by vocabulary is gathered whole for every lookup.

    Args: parameters: stacked, or their shapes.
    """
    found = dataclasses.replace(layout, rules={**layout.rules, "width": ""}).parameters(parameters)
    tensor = TENSOR if parameters["embed"]["embedding"].shape[1] % layout.mesh.shape[TENSOR] == 0 else None
    return found | {"embed": {"embedding": NamedSharding(layout.mesh, PartitionSpec(None, tensor))}}


def _layered(config: DecoderConfig, parameters: Parameters) -> Parameters:
    """`unstack_layers`; a list of layers that are as they should be is taken as it is, without a copy."""
    if isinstance(parameters["layers"], list):
        return unstack_layers(config, parameters)
    # A program for each layer's number, or one for all layers, takes 135M parameters three seconds to compile.
    return parameters | {"layers": [_layer(config, parameters["layers"], i) for i in range(config.layers)]}


@functools.partial(jax.jit, static_argnames="config")
def _layer(config: DecoderConfig, stacked: Any, number: jax.Array) -> Any:
    """One layer of a stack, as `unstack_layers` has it."""
    one = jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, number, keepdims=False), stacked)
    return unstack_layers(config, {"layers": [one]})["layers"][0]


def fingerprint(parameters: Parameters) -> int:
    """A number that changes when any bit of the parameters does, or where it lies; the same for a stack and a list,
    whose matrices may be turned.

    Sums modulo 2^32 of each weight's bits mixed with its place (MurmurHash3's finaliser): two sets of weights share
    it with a chance of about 2^-32. It guards against mistakes, not against malice.
    """
    layers = parameters["layers"]
    rest = {name: part for name, part in parameters.items() if name != "layers"}
    hashed = _hash(layers) if isinstance(layers, list) else _hash_stack(layers)
    whole = int(_hash(rest))
    for value in np.asarray(hashed).tolist():
        whole = (whole * 1_000_003 ^ value) % 2**32
    return whole


def _hash_tree(tree: Any) -> jax.Array:
    """uint32 of one tree."""
    total = jnp.uint32(0)
    for number, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(tree)):
        leaf = leaf.T if getattr(path[-1], "key", "") == "kernel_turned" else leaf
        bits = jax.lax.bitcast_convert_type(leaf, {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize])
        place = jnp.arange(leaf.size, dtype=jnp.uint32).reshape(leaf.shape) * jnp.uint32(0x9E3779B1)
        mixed = bits.astype(jnp.uint32) ^ (place + jnp.uint32(number * 0x7FEB352D % 2**32))
        mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(0x85EBCA6B)
        mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(0xC2B2AE35)
        total += jnp.sum(mixed ^ (mixed >> 16), dtype=jnp.uint32)
    return total


@jax.jit
def _hash(tree: Any) -> jax.Array:
    """uint32 of a tree, or [L] of a list of L trees."""
    return jnp.stack([_hash_tree(part) for part in tree]) if isinstance(tree, list) else _hash_tree(tree)


@jax.jit
def _hash_stack(stacked: Any) -> jax.Array:
    """[L] uint32 of a tree whose leaves have a leading axis of layers."""
    return jax.lax.map(_hash_tree, stacked)


