"""Learning a reward from preferences."""

import jax


def bradley_terry(chosen: jax.Array, rejected: jax.Array) -> jax.Array:
    """-log sigmoid(chosen - rejected): one loss a pair, to be averaged by the caller.

    The derivative is -sigmoid(rejected - chosen) with respect to the chosen score and its opposite for the other
    (Bradley and Terry, 1952; as a reward model's loss in arXiv 1909.08593).

    Args:
      chosen, rejected: [B] float scores.

    Raises:
      ValueError: the shapes differ.
    """
    if chosen.shape != rejected.shape:
        raise ValueError(f"the shape of rejected is {rejected.shape}; allowed: {chosen.shape}, that of chosen. "
                         "Give one score a pair.")
    return -jax.nn.log_sigmoid(chosen - rejected)
