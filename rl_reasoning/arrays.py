"""What a function takes that runs on the host and on devices alike, and what advantages and losses both do to it."""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray


def dense_ids(groups: Array) -> jax.Array:
    """[N] ids of any values -> [N] ids in 0..N-1, equal where the inputs are equal: first places once sorted."""
    return jnp.searchsorted(jnp.sort(groups), groups)
