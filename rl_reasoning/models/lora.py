"""Low-rank adapters on a decoder: which leaves are trained, and the exact merge.

Adapters are leaves of the decoder's own tree ("lora_a", "lora_b" beside "kernel"), so that sampler and trainer
read the same tree; only they are differentiated, stepped and kept.
"""

from typing import Any

import jax
import jax.numpy as jnp

from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.models.decoder import Parameters, initialize
from rl_reasoning.models.quantized import dequantize, map_linear, quantize_layers

_ADAPTERS = frozenset({"lora_a", "lora_b"})


def split(config: DecoderConfig, parameters: Parameters) -> tuple[Parameters, Parameters]:
    """(trained, frozen) parts of a decoder's parameters; without adapters all is trained and {} frozen."""
    if config.lora is None:
        return parameters, {}
    return _part(parameters, adapters=True), _part(parameters, adapters=False)


def join(trained: Parameters, frozen: Parameters) -> Parameters:
    """Undoes `split`; no array is copied."""
    return trained | {name: join(trained[name], part) if name in trained else part for name, part in frozen.items()}


def prepare(config: DecoderConfig, parameters: Parameters, key: jax.Array) -> Parameters:
    """Plain parameters as the config holds them: in int8 if it says so, with adapters that change nothing yet.

    A starts uniform in +-1/sqrt(in) and B at zero. Weights that are in int8 already stay as they are.
    """
    if config.precision.parameters == "int8" and "scale" not in parameters["layers"]["mlp"]["down"]:
        parameters = quantize_layers(parameters)
    if config.lora is None:
        return parameters
    adapters = jax.jit(lambda key: split(config, initialize(config, key))[0])(key)
    return join(adapters, parameters)


def merge(config: DecoderConfig, parameters: Parameters) -> Parameters:
    """Float32 parameters of the decoder without adapters or int8 that computes the same: W + (alpha / rank) A B."""
    def merged(linear: dict[str, Any]) -> dict[str, Any]:
        kernel = linear["kernel"]
        kernel = dequantize(kernel, linear["scale"]) if "scale" in linear else kernel.astype(jnp.float32)
        if config.lora and "lora_a" in linear:
            kernel = kernel + config.lora.alpha / config.lora.rank * (linear["lora_a"] @ linear["lora_b"])
        return {"kernel": kernel} | {name: linear[name].astype(jnp.float32) for name in ("bias",) if name in linear}

    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), map_linear(merged, parameters))


def _part(tree: Parameters, *, adapters: bool) -> Parameters:
    """The adapters of a tree, or all but them; branches that end up empty are left out."""
    parts = {name: _part(part, adapters=adapters) if isinstance(part, dict) else part for name, part in tree.items()
             if isinstance(part, dict) or (name in _ADAPTERS) == adapters}
    return {name: part for name, part in parts.items() if not isinstance(part, dict) or part}
