"""Weights of linear maps in int8 with one float32 scale an output: a quarter of the memory, nothing trained."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def quantize(kernel: Any) -> tuple[Any, Any]:
    """int8 kernel [..., in, out] and float32 scale [..., out]: kernel x scale is within half a scale of the given one.

    Takes and gives numpy or jax arrays. The scale is the output's largest magnitude over 127, and 1 for an
    output of zeros.
    """
    numbers = jnp if isinstance(kernel, jax.Array) else np
    largest = numbers.abs(kernel.astype("float32")).max(axis=-2)
    scale = numbers.where(largest > 0, largest / 127, 1).astype("float32")
    return numbers.round(kernel.astype("float32") / scale[..., None, :]).astype("int8"), scale


def dequantize(kernel: jax.Array, scale: jax.Array) -> jax.Array:
    """The float32 kernel [..., in, out] that an int8 one stands for."""
    return kernel.astype(jnp.float32) * scale[..., None, :]


def quantize_layers(parameters: dict[str, Any]) -> dict[str, Any]:
    """A decoder's parameters with the layers' linear maps in int8."""
    def change(linear: dict[str, Any]) -> dict[str, Any]:
        kernel, scale = quantize(linear["kernel"])
        return linear | {"kernel": kernel, "scale": scale}

    return parameters | {"layers": map_linear(change, parameters["layers"])}


def map_linear(change: Callable[[dict[str, Any]], dict[str, Any]], tree: dict[str, Any]) -> dict[str, Any]:
    """The tree with `change` applied to each linear map: a dict that holds a "kernel"."""
    if "kernel" in tree:
        return change(tree)
    return {name: map_linear(change, part) if isinstance(part, dict) else part for name, part in tree.items()}
