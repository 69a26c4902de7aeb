"""Random keys are derived, never stored: resuming and reordering cost nothing and change nothing."""

import enum

import jax

from rl_reasoning.arrays import Array


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
