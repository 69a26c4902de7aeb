"""How large each answer's gradient is, and how much the gradients of one problem's answers differ."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rl_reasoning.models.decoder import DecoderConfig, Parameters
from rl_reasoning.models.head_gradient import HeadSquares, head_gradient_squares
from rl_reasoning.parallel.exchange import fetch
from rl_reasoning.training.batch import Answers, TrainBatch
from rl_reasoning.training.minibatches import alone, apart
from rl_reasoning.training.packing import pack, stack
from rl_reasoning.training.state import whole
from rl_reasoning.training.states import Memory, predicting_states, token_mask
from rl_reasoning.training.update import score

Norms = Callable[[Parameters, Parameters, TrainBatch], jax.Array]
TOGETHER = 16  # answers whose full gradients exist at once


def make_head_norms(config: DecoderConfig, temperature: float) -> Norms:
    """A jitted function (trained, frozen, batch with micro-batches) -> [M, N] norms.

    Of each answer's gradient of its log-probability, a sum over tokens, at the output layer; 0 for padding. A forward
    pass and no backward pass.
    """
    @jax.jit
    def run(trained: Parameters, frozen: Parameters, batch: TrainBatch) -> jax.Array:
        """Norms by the output layer alone."""
        policy = whole({"policy": trained}, frozen)["policy"]

        def part(each: TrainBatch) -> jax.Array:
            hidden = predicting_states(config, policy, each, Memory())
            found = head_gradient_squares(config, policy, hidden, each.ids, token_mask(each).astype(jnp.float32),
                                          temperature=temperature)
            return jnp.sqrt(found.answers)

        return jax.lax.map(part, batch)

    return run


def make_full_norms(config: DecoderConfig, temperature: float) -> Norms:
    """The same of the gradient of all that is trained: one backward pass for each answer, some of them at once.

    Each micro-batch holds one answer (`training.minibatches.apart`). For policies whose gradients fit `TOGETHER` times.
    """
    @jax.jit
    def run(trained: Parameters, frozen: Parameters, batch: TrainBatch) -> jax.Array:
        """Norms of whole gradients."""
        def part(each: TrainBatch) -> jax.Array:
            def answer(moved: Parameters) -> jax.Array:
                logp = score(config, whole({"policy": moved}, frozen), each, temperature, memory=Memory()).logp
                return jnp.where(token_mask(each), logp, 0).sum()

            return optax.tree.norm(jax.grad(answer)(trained))[None]

        return jax.lax.map(part, batch, batch_size=TOGETHER)

    return run


def measure(norms: Norms, trained: Parameters, frozen: Parameters, answers: Answers, *, one_by_one: bool) -> np.ndarray:
    """[N] norms of the answers' gradients, `TOGETHER` answers a call, so that one shape is compiled whatever N.

    Args: norms: of `make_head_norms`, or of `make_full_norms` with one_by_one.
    """
    count, length = len(answers.lengths), answers.prompt_ids.shape[1] + answers.ids.shape[1]
    found = []
    for start in range(0, count, TOGETHER):
        some = np.resize(np.arange(start, min(start + TOGETHER, count)), TOGETHER)  # the last ones again, to fill up
        batch = apart(answers, some) if one_by_one else stack([pack(
            alone(answers, some), length, TOGETHER, rows=TOGETHER)])
        found.append(fetch(norms(trained, frozen, batch)).ravel())
    return np.concatenate([*found, np.zeros(0, np.float32)])[:count]


class Spread(NamedTuple):
    """Of each problem how many answers it has, and the variance of one answer's gradient.

    Both [G], on the host. The variance is the trace of the sample covariance, at the output layer; NaN of a problem
    with one answer.
    """

    counts: np.ndarray
    variances: np.ndarray

    def compared(self, scale: np.ndarray) -> tuple[float, float]:
        """Variance of the mean over problems of `scale` [G] times each one's mean over its answers; and what it were
        if the same answers were shared alike.

        Problems with one answer, and those whose scale is not finite, are left out of both. 0 where none is left.
        """
        known = (self.counts >= 2) & np.isfinite(scale)
        counts, squares = self.counts[known], self.variances[known] * np.square(scale[known])
        if not known.any():
            return 0.0, 0.0
        alike = counts.mean()
        return float((squares / counts).sum() / len(counts) ** 2), float((squares / alike).sum() / len(counts) ** 2)


def make_spread(config: DecoderConfig, temperature: float) -> Callable[[Parameters, TrainBatch], Spread]:
    """A function of the policy and a batch with micro-batches, which hold whole groups; they come in the batch's order.

    An answer's gradient is that of sum_t w_t A_t ln p(y_t), with the batch's advantages A and weights w.
    """
    @jax.jit
    def squares(policy: Parameters, batch: TrainBatch) -> HeadSquares:
        def part(each: TrainBatch) -> HeadSquares:
            hidden = predicting_states(config, policy, each, Memory())
            pull = jnp.where(token_mask(each), each.advantages * each.weights, 0)
            return head_gradient_squares(config, policy, hidden, each.ids, pull, groups=each.groups,
                                         temperature=temperature)

        return jax.lax.map(part, batch)

    def run(policy: Parameters, batch: TrainBatch) -> Spread:
        """Counts and variances, on the host."""
        alone, together = fetch(squares(policy, batch))
        counts, sums = np.zeros_like(together), np.zeros_like(together)
        place = (np.arange(len(batch.groups))[:, None], batch.groups)
        np.add.at(counts, place, batch.lengths > 0)
        np.add.at(sums, place, alone)
        there = counts > 0
        n = counts[there]
        with np.errstate(invalid="ignore", divide="ignore"):
            return Spread(n, np.where(n > 1, np.maximum(sums[there] - together[there] / n, 0) / (n - 1), np.nan))

    return run
