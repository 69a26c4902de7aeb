"""The search itself: answers are made, rewarded, and made again until they are good enough.

The methods differ in how the next answer comes about (a walk): from latents moved by their gradient, from latents
moved at random, or as another draw from the policy. What a problem spends, when it stops and what is kept is the same
for all. As problems stop, others take their places, so that the device's batch stays full.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

import jax
import numpy as np

from rl_reasoning.config import Latent, Sampling
from rl_reasoning.keys import per_sample
from rl_reasoning.latent import steps
from rl_reasoning.latent.attempts import Attempts, Reward
from rl_reasoning.latent.finish import Answers, finish
from rl_reasoning.latent.steps import Latents
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.rollouts import Policy, sample
from rl_reasoning.types import Problem

MOVES = {"latent": steps.climb, "noise": steps.wander}


def latent_search(policy: Policy, parameters: Parameters, problems: Sequence[Problem], reward: Reward,
                  settings: Latent, *, max_tokens: int, key: jax.Array, method: str = "latent") -> Attempts:
    """LatentSeek (arXiv 2505.13308) for many problems at once; nothing is trained.

    The first answer is the likeliest. The final hidden states z_t that chose its first m = min(fraction * length, cap)
    tokens x_t become free. Each step moves them by (R - b) grad ln softmax(W z_t)[x_t], R being the reward of the
    latest answer, takes their tokens, and lets the policy go on from there, until R > threshold.

    Args:
      reward: see `rl_reasoning.latent.rewards`; the published ones lie in [-1, 0].
      max_tokens: longest answer, end of sequence included.
      key: of what is drawn; a problem's answers depend on the key and the problem, not on the others beside it.
      method: "latent", or "noise" for random steps instead.

    Returns: every answer; `Attempts.chosen(settings.answer)` says which one the method returns.

    Raises:
      ValueError: a prompt that does not fit, or settings that leave no latent for the longest answer.
    """
    attempts = Attempts.empty(policy, problems, settings.steps + 1, max_tokens)
    walk = _LatentWalk(policy, parameters, attempts, settings, key, MOVES[method])
    return _search(walk, policy, parameters, attempts, reward, settings)


def best_of(policy: Policy, parameters: Parameters, problems: Sequence[Problem], reward: Reward | None,
            settings: Latent, *, sampling: Sampling, key: jax.Array, most: int, greedy_first: bool = False) -> Attempts:
    """Draws from the policy until a reward is above the threshold, at most `most` a problem; without rewards all.

    Args:
      key: answers are those of `rl_reasoning.rollouts.sample` with this key.
      greedy_first: the first answer is the likeliest one, as a latent search's is.
    """
    attempts = Attempts.empty(policy, problems, most, sampling.max_tokens)
    walk = _Draws(policy, parameters, attempts, sampling, key, greedy_first)
    return _search(walk, policy, parameters, attempts, reward, settings)


class _Walk(Protocol):
    """How answers come about."""

    def first(self, rows: np.ndarray, padded: np.ndarray) -> Answers:
        """The first answers of some problems. padded: the rows, repeated up to the batch that is compiled for."""
        ...

    def next(self, rows: np.ndarray, padded: np.ndarray) -> Answers:
        """One more answer to each."""
        ...

    def ready(self, rows: np.ndarray) -> np.ndarray:
        """Which of these problems, that are not ended, can have their next answers together."""
        ...


def _search(walk: _Walk, policy: Policy, parameters: Parameters, attempts: Attempts, reward: Reward | None,
            settings: Latent) -> Attempts:
    """Fills `attempts`."""
    everyone = np.arange(len(attempts.problems))
    batch = min(settings.batch, len(everyone))
    for start in range(0, len(everyone), batch):
        rows = everyone[start:start + batch]
        attempts.add(rows, walk.first(rows, _padded(rows, batch)), reward)
    while True:
        open_ = attempts.counts < attempts.rewards.shape[1]
        if reward is not None:  # an answer without a reward ends a search too: it does not say where to go
            open_ &= attempts.latest(everyone) <= settings.threshold
        rows = walk.ready(everyone[open_])[:batch]
        if not len(rows):
            break
        attempts.add(rows, walk.next(rows, _padded(rows, batch)), reward)
    policy.fresh.check(policy.engine.fingerprint, parameters)
    return attempts


def _padded(rows: np.ndarray, batch: int) -> np.ndarray:
    return np.concatenate([rows, np.full(batch - len(rows), rows[-1])])


class _LatentWalk:
    """Answers from latents, which are kept on the device for the problems at hand alone.

    Raises ValueError when even the longest answer has no latent.
    """

    def __init__(self, policy: Policy, parameters: Parameters, attempts: Attempts, settings: Latent, key: jax.Array,
                 move: Callable[..., Latents]):
        self._policy, self._parameters, self._attempts = policy, parameters, attempts
        self._settings, self._key, self._move = settings, key, move
        longest = attempts.ids.shape[2]
        self._width = int(_sizes(settings, longest))
        if self._width < 1:
            raise ValueError(f"latent.fraction={settings.fraction} of at most {longest} tokens is no token; give at "
                             f"least {1 / longest:.3g}")
        self._slots = np.full(min(settings.batch, len(attempts.problems)), -1)
        self._latents: Latents | None = None

    def first(self, rows: np.ndarray, padded: np.ndarray) -> Answers:
        """The likeliest answers."""
        nothing = np.zeros((len(padded), self._width), np.int32)
        return _take(self._finish(padded, nothing, np.zeros(len(padded), np.int32)), np.arange(len(rows)))

    def next(self, rows: np.ndarray, padded: np.ndarray) -> Answers:
        """The latents moved once, and the answers that follow from them."""
        self._enter(rows)
        used = np.maximum(self._slots, 0)
        numbers = np.asarray([self._attempts.problems[row].number for row in used], np.uint32)
        self._latents = self._move(
            self._parameters, self._latents, self._weights(used),
            _keys(self._key, numbers, self._attempts.counts[used].astype(np.int32)), config=self._policy.config,
            settings=self._settings)
        answers = self._finish(used, np.asarray(self._latents.tokens), np.asarray(self._latents.sizes))
        place = {row: slot for slot, row in enumerate(self._slots)}
        return _take(answers, np.asarray([place[row] for row in rows]))

    def ready(self, rows: np.ndarray) -> np.ndarray:
        """Those whose first answers are long enough for a latent."""
        return rows[_sizes(self._settings, self._attempts.lengths[rows, 0]) > 0]

    def _finish(self, rows: np.ndarray, beginnings: np.ndarray, sizes: np.ndarray) -> Answers:
        return finish(self._policy, self._parameters, self._attempts.prompts_of(rows), beginnings, sizes,
                      self._attempts.ids.shape[2])

    def _weights(self, rows: np.ndarray) -> np.ndarray:
        """[B, M]: the reward of each token of the latest answers, less the baseline; 0 beyond an answer's end."""
        made, at = self._attempts, self._attempts.counts[rows] - 1
        weights = np.nan_to_num(made.process[rows, at, :self._width])
        if self._settings.baseline == "mean":
            earlier = np.where(np.arange(made.rewards.shape[1]) < at[:, None], made.rewards[rows], 0)
            weights = weights - (earlier.sum(axis=1) / np.maximum(at, 1))[:, None]
        inside = np.arange(self._width) < made.lengths[rows, at][:, None]
        return np.where(inside, weights, 0).astype(np.float32)

    def _enter(self, rows: np.ndarray) -> None:
        """Gives each problem that has no latents yet the place of one that has ended."""
        new = np.setdiff1d(rows, self._slots)
        if not len(new):
            return
        free = np.flatnonzero(~np.isin(self._slots, rows))[:len(new)]
        self._slots[free] = new
        used, made = np.maximum(self._slots, 0), self._attempts
        fresh = steps.read_latents(
            self._parameters, made.prompts_of(used), made.ids[used, 0, :self._width],
            _sizes(self._settings, made.lengths[used, 0]).astype(np.int32), config=self._policy.config,
            settings=self._settings)
        entered = np.isin(self._slots, new)
        self._latents = fresh if self._latents is None else steps.replace(self._latents, fresh, entered)


class _Draws:
    """Answers drawn from the policy, each with the key that `rollouts.sample` would give it."""

    def __init__(self, policy: Policy, parameters: Parameters, attempts: Attempts, sampling: Sampling, key: jax.Array,
                 greedy_first: bool):
        self._policy, self._parameters, self._attempts = policy, parameters, attempts
        self._sampling, self._key = sampling, key
        self._first = dataclasses.replace(sampling, temperature=0.0) if greedy_first else sampling

    def first(self, rows: np.ndarray, padded: np.ndarray) -> Answers:
        """The first draws, or the likeliest answers."""
        return self._draw(rows, padded, self._first)

    def next(self, rows: np.ndarray, padded: np.ndarray) -> Answers:
        """Further draws."""
        return self._draw(rows, padded, self._sampling)

    def ready(self, rows: np.ndarray) -> np.ndarray:
        """Those with the fewest answers: draws of one number come together."""
        counts = self._attempts.counts[rows]
        return rows[counts == counts.min(initial=self._attempts.rewards.shape[1])]

    def _draw(self, rows: np.ndarray, padded: np.ndarray, sampling: Sampling) -> Answers:
        number = int(self._attempts.counts[rows[0]])
        problems = [self._attempts.problems[row] for row in padded]
        _, found = sample(self._policy, self._parameters, problems, range(number, number + 1), self._key, sampling)
        return _take(Answers(found.ids[:, 0], found.lengths[:, 0], found.stop_reasons[:, 0]), np.arange(len(rows)))


def _take(answers: Answers, rows: np.ndarray) -> Answers:
    return Answers(*(field[rows] for field in answers))


def _sizes(settings: Latent, lengths: np.ndarray | int) -> np.ndarray:
    """How many latents answers of these lengths have: min(floor(fraction * length), cap)."""
    return np.minimum(np.floor(settings.fraction * np.asarray(lengths)).astype(int), settings.cap)


_keys = jax.jit(per_sample)
