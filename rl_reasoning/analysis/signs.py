"""Why the sign of the reward may matter: expected gradients, their noise, and where one update moves probability.

For rewards r of 0 and 1, PSR weighs an answer's score with r and NSR with r - 1. Since E[grad log pi] = 0, both have
one and the same expectation on-policy; what is left between them is noise, denominators, and steps that are not small.
The functions here are exact on a policy whose answers can be enumerated: `logp` maps its parameters to the
log-probabilities [A] of all answers, whose sum of probabilities is 1. The paper is arXiv 2506.01347.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rl_reasoning.arrays import Array

Logp = Callable[[Any], jax.Array]


class Noise(NamedTuple):
    """Of an estimator's term for one answer: squared norm of its expectation, and the trace of its covariance."""

    signal: jax.Array
    variance: jax.Array

    def answers_for(self, ratio: float) -> jax.Array:
        """How many answers an update needs for the mean's squared signal to be `ratio` times its noise."""
        return ratio * self.variance / self.signal


def coefficients(rewards: Array) -> dict[str, Array]:
    """{estimator: [A]}: what multiplies an answer's score. rewards: [A], 0 or 1."""
    return {"psr": rewards, "nsr": rewards - 1, "reinforce": 2 * rewards - 1}


@functools.partial(jax.jit, static_argnames="logp")
def expected_gradient(logp: Logp, parameters: Any, weights: jax.Array) -> Any:
    """E[c(y) grad log pi(y)], over all answers; a tree like the parameters. weights: c, [A]."""
    mass = jnp.exp(jax.lax.stop_gradient(logp(parameters))) * weights
    return jax.grad(lambda current: (mass * logp(current)).sum())(parameters)


@functools.partial(jax.jit, static_argnames="logp")
def noise(logp: Logp, parameters: Any, weights: jax.Array) -> Noise:
    """Signal and noise of the estimator c(y) grad log pi(y), exactly. weights: c, [A]."""
    scores = jax.jacrev(logp)(parameters)
    rows = jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(scores)], axis=1)
    mass = jnp.exp(logp(parameters))
    mean = (mass * weights) @ rows
    signal = jnp.square(mean).sum()
    return Noise(signal, (mass * jnp.square(weights)) @ jnp.square(rows).sum(axis=1) - signal)


def sampled_noise(gradients: np.ndarray, weights: np.ndarray) -> Noise:
    """The same, estimated from answers that were drawn on-policy; unbiased, so a small signal may come out below 0.

    Args: gradients: [N, D], each answer's score. weights: c, [N].

    Raises:
      ValueError: fewer than two answers.
    """
    if len(gradients) < 2:
        raise ValueError(f"{len(gradients)} answers say nothing of their spread; give at least 2")
    terms = np.asarray(weights)[:, None] * np.asarray(gradients)
    variance = terms.var(axis=0, ddof=1).sum()
    return Noise(np.square(terms.mean(axis=0)).sum() - variance / len(terms), variance)


class Pair(NamedTuple):
    """Two estimators of one direction, from rollouts that both read again and again.

    signal: squared norm of the mean of both expectations. variances: [2] traces of the estimators' covariances.
    cosine: between the two expectations. All are free of the bias that noise gives plain means, so that a signal that
    drowns in it may come out below 0; the cosine is NaN then, and may leave -1 to 1 by chance.
    """

    signal: float
    variances: np.ndarray
    cosine: float

    @property
    def noise(self) -> np.ndarray:
        """[2]: variance over squared signal; NaN where the signal is not above 0."""
        return self.variances / self.signal if self.signal > 0 else np.full(2, np.nan)


def paired_noise(first: np.ndarray, second: np.ndarray) -> Pair:
    """What repeated draws of two estimators say. first, second: [R, D]; row r of both is of the r-th rollout.

    Expectations are multiplied across different rollouts alone, where noise averages to 0.

    Raises:
      ValueError: fewer than two rollouts, or different shapes.
    """
    count = len(first)
    if count < 2 or first.shape != second.shape:
        raise ValueError(f"give both estimators on the same rollouts, at least 2; got {first.shape} and {second.shape}")
    sums = [rows.sum(axis=0, dtype=np.float64) for rows in (first, second)]

    def product(one: int, other: int) -> tuple[float, float]:
        """The mean product of rows of different rollouts, and that of the same."""
        same = float(np.einsum("rd,rd->", *((first, second)[each] for each in (one, other)), dtype=np.float64))
        return (float(sums[one] @ sums[other]) - same) / (count * (count - 1)), same / count

    (a, same_a), (b, same_b), (ab, _) = product(0, 0), product(1, 1), product(0, 1)
    cosine = ab / np.sqrt(a * b) if min(a, b) > 0 else np.nan
    return Pair((a + b + 2 * ab) / 4, np.asarray([same_a - a, same_b - b]), float(cosine))


def second_moments(squared_norms: np.ndarray, rewards: np.ndarray) -> dict[str, float]:
    """E[c^2 |grad log pi|^2] of each estimator from the squared norms of answers' scores alone, both [N].

    With a signal that is the same for both, the estimator with the smaller one is the less noisy: PSR where right
    answers are rarer or have smaller scores than wrong ones, NSR otherwise.
    """
    return {name: float(np.mean(np.square(np.asarray(weights)) * squared_norms))
            for name, weights in coefficients(np.asarray(rewards)).items()}


class Flow(NamedTuple):
    """How much probability an update moved, over all answers; the four add up to 0.

    Of answers that were drawn and right, drawn and wrong, not drawn and right, not drawn and wrong.
    """

    drawn_right: jax.Array
    drawn_wrong: jax.Array
    other_right: jax.Array
    other_wrong: jax.Array


@jax.jit
def mass_flow(before: jax.Array, after: jax.Array, drawn: jax.Array, rewards: jax.Array) -> Flow:
    """The flow between two policies. before, after: [A] log-probabilities; drawn: [A] bool; rewards: [A], 0 or 1."""
    moved, right = jnp.exp(after) - jnp.exp(before), rewards > 0
    return Flow(*(jnp.where(kind, moved, 0).sum() for kind in (
        drawn & right, drawn & ~right, ~drawn & right, ~drawn & ~right)))


@functools.partial(jax.jit, static_argnames=("logp", "kept_rows"))
def step(logp: Logp, parameters: Any, answers: jax.Array, weights: jax.Array, rate: float, *,
         kept_rows: bool = False) -> Any:
    """The parameters after one plain gradient step on drawn answers.

    Args:
      answers: [N], numbers of the answers that were drawn. weights: c, [A].
      rate: of the step.
      kept_rows: divide by the answers whose coefficient is not 0 instead of by all, as the paper's code does for PSR
        and NSR: the step then does not shrink as a kind of answer gets rare.
    """
    chosen = weights[answers]
    count = jnp.maximum((chosen != 0).sum(), 1) if kept_rows else len(answers)
    gradient = jax.grad(lambda current: (chosen * logp(current)[answers]).sum() / count)(parameters)
    return jax.tree.map(lambda value, slope: value + rate * slope, parameters, gradient)
