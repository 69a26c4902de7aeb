"""A step's answers: problems drawn by the algorithm's plan, sampled and scored."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np

from rl_reasoning import advantages, keys, rollouts
from rl_reasoning.algorithms import Algorithm
from rl_reasoning.allocation import Estimates, Plan
from rl_reasoning.allocation.estimates import Found
from rl_reasoning.config import RL, Sampling
from rl_reasoning.data import Stream
from rl_reasoning.loop.setup import Lab
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.rollouts import NothingScored
from rl_reasoning.types import Problem, Rollouts, join

LOOK_AHEAD = 10  # batches of problems in which those inside a band are looked for


@dataclasses.dataclass(frozen=True)
class Collected:
    """What one step learns from.

    Attributes:
      rollout: the answers to a full step's problems; one row an answer where problems have different numbers of them.
      groups: [N] which of G problems each answer is to, in the answers' order.
      uniform: [G] bool, groups without two different rewards that only fill the step up, after a refill; they must
        not count.
      drawn: batches of problems drawn from the stream so far, this step's included.
      tokens: generated in all rounds.
      clock: seconds spent on sampling ("rollout") and on scoring ("verify").
      estimates: of the problems' rates, these answers included where the plan reads them.
      greedy: [G] rewards of the likeliest answers, or None when the algorithm does not ask for them.
      rates: [G] acceptance rates, and weights: [G] of a problem's answers in the loss; None without such a plan.
      metrics: what the plan has to say.
      sampled_by: the step after which the policy was what drew these answers; 0 is the first policy.
    """

    rollout: Rollouts
    groups: np.ndarray
    uniform: np.ndarray
    drawn: int
    tokens: int
    clock: "Clock"
    estimates: Estimates
    greedy: np.ndarray | None = None
    rates: np.ndarray | None = None
    weights: np.ndarray | None = None
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    sampled_by: int = 0

    @property
    def problems(self) -> list[Problem]:
        """The G problems."""
        rows = np.unique(self.groups, return_index=True)[1] // self.rollout.rewards.shape[1]
        return [self.rollout.problems[row] for row in rows]


def sampling_of(rl: RL) -> Sampling:
    """How rollouts are drawn."""
    return Sampling(temperature=rl.temperature, top_p=rl.top_p, top_k=rl.top_k, max_tokens=rl.max_tokens,
                    slots=rl.slots)


def collect(lab: Lab, algorithm: Algorithm, parameters: Parameters, batches: Stream, drawn: int, step: int,
            estimates: Estimates = Estimates()) -> Collected:
    """Samples and scores a step's answers, as many to each problem.

    Args:
      batches: the stream of problems. drawn: how many of its batches earlier steps took.
      estimates: of the problems' rates, for a plan that passes over some.

    Raises:
      NothingScored: no answer could be scored.
    """
    clock, rl, plan = Clock(), lab.experiment.rl, algorithm.plan
    assert isinstance(plan, Plan)
    draw = _Draw(lab, parameters, step, clock)
    parts: list[Rollouts] = []
    passed = 0
    while True:
        problems, drawn, skipped = _next_problems(batches, drawn, plan, estimates, step)
        passed += skipped
        parts.append(draw(problems, round_=len(parts)))
        require_scored(parts[-1], step)
        mixed = np.concatenate([is_mixed(part.rewards) for part in parts])
        if not plan.refill or mixed.sum() >= rl.prompts or len(parts) > plan.refill:
            break
    metrics: dict[str, float] = {}
    rollout, uniform = parts[0], np.zeros(rl.prompts, bool)
    if plan.refill:
        rollout, uniform = _fill_up(join(parts), mixed, rl.prompts)
        metrics |= {"plan/rounds": float(len(parts)), "plan/informative": float(1 - uniform.mean())}
    if plan.band or algorithm.replay.positives:
        estimates = _seen(estimates, parts, step)
    if plan.band:
        metrics["plan/passed_over"] = float(passed)
    greedy = draw.greedy(rollout) if "greedy_rewards" in algorithm.needs else None
    tokens = sum(int(part.completions.lengths.sum()) for part in parts)
    return Collected(rollout, even_groups(rollout), uniform, drawn, tokens, clock, estimates, greedy, metrics=metrics)


def _next_problems(batches: Stream, drawn: int, plan: Plan, estimates: Estimates,
                   step: int) -> tuple[list[Problem], int, int]:
    """A batch of problems, how many of the stream's batches are drawn then, and how many problems were passed over.

    With a band, problems outside are replaced by the next batches' that are not, each of them once; where `LOOK_AHEAD`
    batches have too few, they stay.
    """
    first = batches[drawn]
    if not plan.band:
        return first, drawn + 1, 0
    inside: dict[str, Problem] = {}
    outside: dict[str, Problem] = {}
    for taken in range(1, LOOK_AHEAD + 1):
        problems = batches[drawn + taken - 1]
        ruled_out = estimates.outside([problem.id for problem in problems], step, low=plan.band_low,
                                      high=plan.band_high, steps=plan.band_steps)
        for problem, out in zip(problems, ruled_out, strict=True):
            (outside if out else inside)[problem.id] = problem
        if len(inside) >= len(first):
            break
    return [*inside.values(), *outside.values(), *first][:len(first)], drawn + taken, len(outside)


def _seen(estimates: Estimates, parts: Sequence[Rollouts], step: int) -> Estimates:
    """What a problem's latest answers say replaces what earlier ones did."""
    for part in parts:
        estimates = estimates.add([problem.id for problem in part.problems],
                                  accepted(part.rewards.ravel(), even_groups(part)), step, memory=0.0)
    return estimates


def accepted(rewards: np.ndarray, groups: np.ndarray, norms: np.ndarray | None = None,
             count: int | None = None) -> Found:
    """What answers say of each of `count` problems (by default as many as `groups` names).

    Accepted is a reward above 0, as in `advantages.raft`; what could not be scored was not drawn.

    Args: rewards: [N], NaN where unscorable. groups: [N]. norms: [N], of gradients; None where not measured.
    """
    count = int(groups.max(initial=-1)) + 1 if count is None else count
    right = rewards > 0
    norms = np.full(len(rewards), np.nan) if norms is None else norms
    measured = right & np.isfinite(norms)
    sizes = np.where(measured, norms, 0)
    return Found(*(np.bincount(groups, weights=column, minlength=count)
                   for column in (np.isfinite(rewards), right, sizes, measured)))


def is_mixed(rewards: np.ndarray) -> np.ndarray:
    """[P] bool: groups with two scorable answers whose rewards differ. rewards: [P, n]."""
    count, samples = rewards.shape
    return advantages.informative(rewards.ravel(), np.repeat(np.arange(count), samples))


def even_groups(rollout: Rollouts) -> np.ndarray:
    """[N] int32: which problem each answer is to, where each row of the rollout is one."""
    count, samples = rollout.rewards.shape
    return np.repeat(np.arange(count, dtype=np.int32), samples)


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


def require_scored(rollout: Rollouts, step: int) -> None:
    """Raises NothingScored when there is no verdict on any answer."""
    if not np.isfinite(rollout.rewards).any():
        raise NothingScored(f"no answer of step {step} could be scored; the first: {rollout.verdicts[0][0].reason}")


def _fill_up(rollout: Rollouts, mixed: np.ndarray, count: int) -> tuple[Rollouts, np.ndarray]:
    """`count` groups, those with two different rewards first and in the order drawn, then others to keep the shape."""
    chosen = np.concatenate([np.flatnonzero(mixed), np.flatnonzero(~mixed)])[:count]
    return rollout.take(chosen), ~mixed[chosen]
