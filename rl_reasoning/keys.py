"""Random keys are derived, never stored: resuming and reordering cost nothing and change nothing."""

import enum
from typing import Any

import jax
import numpy as np

from rl_reasoning.arrays import Array

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


class Role(enum.IntEnum):
    """What a random key is for; two roles never share noise."""

    INITIALIZE = 0
    WARM_START = 1
    PROBLEMS = 2
    ROLLOUT = 3
    EVALUATION = 4
    CONTROL = 5
    UPDATE = 6
    SEARCH = 7
    REUSE = 8


def derive(seed: int | jax.Array, role: Role, step: int | jax.Array) -> jax.Array:
    """The key of one role at one step."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), role), step)


def per_sample(key: jax.Array, problems: Array, samples: Array) -> jax.Array:
    """A key for each answer, which depends on its problem and its sample number, not on its place in the batch.

    Args: problems [N] uint32 (`Problem.number`); samples [N] int32.
    Returns: [N] keys.
    """
    return jax.vmap(lambda problem, sample: jax.random.fold_in(jax.random.fold_in(key, problem), sample))(
        problems, samples)


def uniforms(key: jax.Array, problems: np.ndarray, samples: np.ndarray, tokens: int) -> np.ndarray:
    """The numbers that each answer's tokens are drawn with: [N, tokens] float32 in [0, 1).

    Number i is `jax.random.uniform(jax.random.fold_in(k, i))` with the answer's k of `per_sample`, to the bit. It is
    made here since the hashes, compiled into each program that draws, take longer to compile than a model's layers.

    Args: problems [N] uint32; samples [N] int32.
    """
    first, second = np.asarray(jax.random.key_data(key))[:2]
    words = _threefry(first, second, problems.astype(np.uint32))
    words = _threefry(*words, samples.astype(np.uint32))
    words = _threefry(words[0][:, None], words[1][:, None], np.arange(tokens, dtype=np.uint32))
    first, second = _threefry(*words, np.uint32(0))
    return ((first ^ second) >> np.uint32(9) | np.uint32(0x3F800000)).view(np.float32) - np.float32(1)


def _threefry(first: Any, second: Any, number: Any) -> tuple[Any, Any]:
    """Threefry-2x32 in 20 rounds (Salmon et al., SC 2011) of the words 0 and `number`: what `fold_in` does to a key."""
    schedule = (first, second, first ^ second ^ np.uint32(0x1BD11BDA))
    x, y = np.broadcast_arrays(first, number + second)
    for block in range(5):
        for bits in _ROTATIONS[block % 2]:
            x = x + y
            y = (y << np.uint32(bits) | y >> np.uint32(32 - bits)) ^ x
        x, y = x + schedule[(block + 1) % 3], y + schedule[(block + 2) % 3] + np.uint32(block + 1)
    return x, y
