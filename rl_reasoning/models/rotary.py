"""Rotary positions (RoFormer, arXiv 2104.09864), half rotation, with the scalings of longer contexts."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rl_reasoning.arrays import Array
from rl_reasoning.models.architecture import DecoderConfig, RopeScaling


class Rotation(NamedTuple):
    """Sine and cosine of every position's angles, [B, L, 1, h / 2]; computed once for all layers."""

    sin: jax.Array
    cos: jax.Array


def rotation(config: DecoderConfig, positions: Array) -> Rotation:
    """The angles of positions [B, L] int."""
    scaling = config.rope_scaling
    angles = positions[..., None, None].astype(jnp.float32) * frequencies(config)[None, None, None, :]
    if scaling is None or scaling.magnitude == 1:
        return Rotation(jnp.sin(angles), jnp.cos(angles))
    return Rotation(jnp.sin(angles) * scaling.magnitude, jnp.cos(angles) * scaling.magnitude)


def rotations(config: DecoderConfig, length: int) -> Callable[[Array], Rotation]:
    """What gives the rotation of positions [B, L] below a length.

    For a CPU it is looked up: each layer would compute it again, for every head, as XLA's fusions have it there.
    """
    if not config.for_cpu:
        return functools.partial(rotation, config)
    sin, cos = (x[0, :, 0] for x in rotation(config, jnp.arange(length)[None]))
    return lambda positions: Rotation(sin[positions][:, :, None], cos[positions][:, :, None])


def rotate(x: jax.Array, turn: Rotation) -> jax.Array:
    """Turns the pairs (i, i + h / 2) of each head, in float32. x: [B, L, heads, h]; the type stays."""
    first, second = jnp.split(x, 2, axis=-1)
    turned = jnp.concatenate([first * turn.cos - second * turn.sin, second * turn.cos + first * turn.sin], axis=-1)
    return turned.astype(x.dtype)


def frequencies(config: DecoderConfig) -> jax.Array:
    """Radians a position turns each pair by: [h / 2] float32.

    Scaled frequencies go from f / factor (slow ones, which the original context never saw turn fully) to f:
    linear (arXiv 2306.15595) stretches all of them; llama3 (arXiv 2407.21783) passes linearly in the number
    of turns, yarn (arXiv 2309.00071, equation 23) linearly in the dimension.
    """
    half, scaling = config.head_dim // 2, config.rope_scaling
    plain = config.rope_theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    if scaling is None:
        return plain
    if scaling.kind == "linear":
        return plain / scaling.factor
    kept = _kept_by_turns(plain, scaling) if scaling.kind == "llama3" else _kept_by_dimension(config, scaling)
    return plain * kept + plain / scaling.factor * (1 - kept)


def yarn_magnitude(factor: float) -> float:
    """The recommended factor on sine and cosine (arXiv 2309.00071, equation 22)."""
    return 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0


def _kept_by_turns(plain: jax.Array, scaling: RopeScaling) -> jax.Array:
    turns = scaling.original * plain / (2 * math.pi)
    return jnp.clip((turns - scaling.low) / (scaling.high - scaling.low), 0, 1)


def _kept_by_dimension(config: DecoderConfig, scaling: RopeScaling) -> jax.Array:
    def dimension(turns: float) -> float:
        """Where a frequency makes this many turns in the original context."""
        return config.head_dim * math.log(scaling.original / (turns * 2 * math.pi)) / (2 * math.log(config.rope_theta))

    first, last = dimension(scaling.high), dimension(scaling.low)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, config.head_dim - 1)
    ramp = (jnp.arange(config.head_dim // 2, dtype=jnp.float32) - first) / max(last - first, 1e-3)
    return 1 - jnp.clip(ramp, 0, 1)
