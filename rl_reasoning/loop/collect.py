"""A step's answers: problems drawn by the algorithm's plan, sampled and scored."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator

import jax
import numpy as np

from rl_reasoning import advantages, keys, rollouts
from rl_reasoning.algorithms import Algorithm
from rl_reasoning.config import RL, Sampling
from rl_reasoning.data import Stream
from rl_reasoning.loop.setup import Lab
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.rollouts import NothingScored
from rl_reasoning.types import Rollouts, join


@dataclasses.dataclass(frozen=True)
class Collected:
    """What one step learns from.

    Attributes:
      rollout: the answers to a full step's problems.
      uniform: [P] bool, groups without two different rewards that only fill the step up, after a refill; they must
        not count.
      greedy: [P] rewards of the likeliest answers, or None when the algorithm does not ask for them.
      drawn: batches of problems drawn from the stream so far, this step's included.
      tokens: generated in all rounds.
      clock: seconds spent on sampling ("rollout") and on scoring ("verify").
    """

    rollout: Rollouts
    uniform: np.ndarray
    greedy: np.ndarray | None
    drawn: int
    tokens: int
    clock: "Clock"


def sampling_of(rl: RL) -> Sampling:
    """How rollouts are drawn."""
    return Sampling(temperature=rl.temperature, top_p=rl.top_p, top_k=rl.top_k, max_tokens=rl.max_tokens)


def collect(lab: Lab, algorithm: Algorithm, parameters: Parameters, batches: Stream, drawn: int,
            step: int) -> Collected:
    """Samples and scores a step's answers.

    Args: batches: the stream of problems. drawn: how many of its batches earlier steps took.

    Raises:
      NothingScored: no answer could be scored.
    """
    clock, rl = Clock(), lab.experiment.rl
    draw = _Draw(lab, parameters, step, clock)
    parts: list[Rollouts] = []
    while True:
        parts.append(draw(batches[drawn], round_=len(parts)))
        drawn += 1
        _require_scored(parts[-1], step)
        mixed = np.concatenate([is_mixed(part.rewards) for part in parts])
        if not algorithm.plan.refill or mixed.sum() >= rl.prompts or len(parts) > algorithm.plan.refill:
            break
    rollout, uniform = (_fill_up(join(parts), mixed, rl.prompts) if algorithm.plan.refill
                        else (parts[0], np.zeros(rl.prompts, bool)))
    greedy = draw.greedy(rollout) if "greedy_rewards" in algorithm.needs else None
    tokens = sum(int(part.completions.lengths.sum()) for part in parts)
    return Collected(rollout, uniform, greedy, drawn, tokens, clock)


def is_mixed(rewards: np.ndarray) -> np.ndarray:
    """[P] bool: groups with two scorable answers whose rewards differ. rewards: [P, n]."""
    count, samples = rewards.shape
    return advantages.informative(rewards.ravel(), np.repeat(np.arange(count), samples))


class Clock:
    """Seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@dataclasses.dataclass(frozen=True)
class _Draw:
    """Samples and scores problems of one step."""

    lab: Lab
    parameters: Parameters
    step: int
    clock: Clock

    def __call__(self, problems: list, round_: int) -> Rollouts:
        rl = self.lab.experiment.rl
        return self._scored(problems, range(rl.samples), round_, sampling_of(rl))

    def greedy(self, rollout: Rollouts) -> np.ndarray:
        sampling = dataclasses.replace(sampling_of(self.lab.experiment.rl), temperature=0.0)
        return self._scored(list(rollout.problems), range(1), 0, sampling).rewards[:, 0]

    def _scored(self, problems: list, samples: range, round_: int, sampling: Sampling) -> Rollouts:
        lab = self.lab
        key = keys.derive(lab.experiment.seed, keys.Role.ROLLOUT, self.step)
        # A problem can come again in a later round of the same step, and must not give the same answers.
        key = jax.random.fold_in(key, round_) if round_ else key
        with self.clock("rollout"):
            prompts, completions = rollouts.sample(lab.policy, self.parameters, problems, samples, key, sampling)
        with self.clock("verify"):
            return rollouts.verify(lab.policy, lab.verifier, problems, prompts, completions)


def _require_scored(rollout: Rollouts, step: int) -> None:
    if not np.isfinite(rollout.rewards).any():
        raise NothingScored(f"no answer of step {step} could be scored; the first: {rollout.verdicts[0][0].reason}")


def _fill_up(rollout: Rollouts, mixed: np.ndarray, count: int) -> tuple[Rollouts, np.ndarray]:
    """`count` groups, those with two different rewards first and in the order drawn, then others to keep the shape."""
    chosen = np.concatenate([np.flatnonzero(mixed), np.flatnonzero(~mixed)])[:count]
    return rollout.take(chosen), ~mixed[chosen]
