"""What is kept of a layer for the backward pass, by name; the rest is computed again (arXiv 1604.06174).

| name    | kept                                   | computed again          |
|---------|----------------------------------------|-------------------------|
| none    | what every product gave                | what lies between them: no product |
| dots    | what matrices of weights gave          | what lies between them, attention's products too |
| block   | each layer's input                     | each layer              |
| full    | the input of about every sqrt(n)-th of n layers | each layer, twice |
| offload | each layer's input, in the host's memory | each layer            |
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax import checkpoint_policies as policies
from jax.ad_checkpoint import checkpoint_name

from rl_reasoning.models.attention import MIXED

_INPUT = "layer input"


def scan_layers(layer: Callable, x: jax.Array, inputs: Any, remat: str) -> tuple[jax.Array, Any]:
    """`lax.scan` of a layer over stacked inputs.

    Args:
      layer: (x, one layer's inputs) -> (x, outputs).
      remat: a name of the table above.
    """
    if remat == "none":
        # What is left for the backward pass passes through memory twice: on a CPU that is slower than to make it again.
        products = policies.save_from_both_policies(policies.dots_with_no_batch_dims_saveable,
                                                    policies.save_only_these_names(MIXED))
        return jax.lax.scan(jax.checkpoint(layer, policy=products, prevent_cse=False), x, inputs)
    if remat == "full":
        return _in_groups(layer, x, inputs)
    if remat == "dots":
        return jax.lax.scan(jax.checkpoint(layer, policy=policies.dots_with_no_batch_dims_saveable), x, inputs)
    if remat == "offload":
        return jax.lax.scan(_offloaded(layer), x, inputs)
    return jax.lax.scan(jax.checkpoint(layer), x, inputs)


def group_size(layers: int) -> int:
    """The divisor of the number of layers that is nearest to its square root."""
    return min((n for n in range(1, layers + 1) if layers % n == 0), key=lambda n: abs(n - math.sqrt(layers)))


def _in_groups(layer: Callable, x: jax.Array, inputs: Any) -> tuple[jax.Array, Any]:
    layers = jax.tree.leaves(inputs)[0].shape[0]
    size = group_size(layers)

    @jax.checkpoint
    def group(x: jax.Array, part: Any) -> tuple[jax.Array, Any]:
        return jax.lax.scan(jax.checkpoint(layer), x, part)

    x, outputs = jax.lax.scan(group, x, jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), inputs))
    return x, jax.tree.map(lambda a: a.reshape(layers, *a.shape[2:]), outputs)


def _offloaded(layer: Callable) -> Callable:
    policy = policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[], names_which_can_be_offloaded=[_INPUT], offload_src="device",
        offload_dst="pinned_host")

    def named(x: jax.Array, part: Any) -> tuple[jax.Array, Any]:
        return layer(checkpoint_name(x, _INPUT), part)

    return jax.checkpoint(named, policy=policy)
