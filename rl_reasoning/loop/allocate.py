"""A step's answers where they teach: a few to each problem to know it, then as many as its variance asks for."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rl_reasoning import keys
from rl_reasoning.algorithms import Algorithm
from rl_reasoning.allocation import Estimates, Gvm, variance_bound
from rl_reasoning.allocation.estimates import Found
from rl_reasoning.analysis.gradient_norms import Spread, make_full_norms, make_head_norms, make_spread, measure
from rl_reasoning.config import RL
from rl_reasoning.data import Stream
from rl_reasoning.loop.collect import Clock, Collected, accepted, require_scored, sampling_of
from rl_reasoning.loop.learn import scored_answers
from rl_reasoning.loop.setup import Lab
from rl_reasoning.models.decoder import DecoderConfig, Parameters
from rl_reasoning.rollouts import Policy, sample_counts, verify
from rl_reasoning.sampling.engine import Buckets, JaxEngine
from rl_reasoning.training.batch import Answers, TrainBatch
from rl_reasoning.training.state import TrainState
from rl_reasoning.types import Completions, Problem, Prompts, Rollouts, join

Measure = Callable[[TrainState, Answers], np.ndarray]


def make_measure(config: DecoderConfig, plan: Gvm, temperature: float) -> Measure | None:
    """What finds the gradient norms of answers as the plan wants them; None where it wants none."""
    if plan.gradient == "equal":
        return None
    norms = (make_head_norms if plan.gradient == "head" else make_full_norms)(config, temperature)

    def run(train: TrainState, answers: Answers) -> np.ndarray:
        return measure(norms, train.parameters["policy"], train.frozen, answers, one_by_one=plan.gradient == "full")

    return run


@dataclasses.dataclass(frozen=True)
class Allocator:
    """What a run by a `Gvm` plan holds on to.

    Attributes:
      policy: samples any numbers of answers in few compiled shapes.
      measure: finds gradient norms of answers; None where the plan wants none.
      spread: measures how much the gradients of one problem's answers differ.
    """

    policy: Policy
    measure: Measure | None
    spread: Callable[[Parameters, TrainBatch], Spread]


def make_allocator(policy: Policy, plan: Gvm, rl: RL) -> Allocator:
    """Compiles nothing yet."""
    if isinstance(policy.engine, JaxEngine):
        buckets = Buckets(slots=(rl.prompts, rl.prompts * rl.samples), prompts=(rl.prompts,))
        policy = dataclasses.replace(policy, engine=JaxEngine(policy.config, policy.tokenizer.eos_id, policy.tokenizer,
                                                              buckets=buckets,
                                                              layout=policy.sampler or policy.layout))
    return Allocator(policy, make_measure(policy.config, plan, rl.temperature),
                     make_spread(policy.config, rl.temperature))


def collect_allocated(lab: Lab, algorithm: Algorithm, train: TrainState, allocator: Allocator, batches: Stream,
                      drawn: int, step: int, estimates: Estimates) -> Collected:
    """Samples and scores a step's answers by a `Gvm` plan: rl.prompts * rl.samples that are trained on.

    All of it derives from the seed, the step, and what is passed: done again, it gives the same counts and answers.

    Args:
      train: the parameters.
      allocator: of `make_allocator`.
      batches, drawn, estimates: see `loop.collect.collect`.

    Raises:
      NothingScored: no answer of a stage could be scored.
    """
    plan, clock = algorithm.plan, Clock()
    assert isinstance(plan, Gvm)
    draw = _Stages(lab, allocator.policy, train.whole["policy"], step, clock)
    problems = tuple({problem.id: problem for problem in batches[drawn]}.values())
    ids = [problem.id for problem in problems]
    missing = estimates.missing(ids, step, draws=plan.draws, every=plan.every, memory=plan.memory)
    first = draw(problems, missing, first=0)
    if first is not None:
        require_scored(first.rollout, step)
        with clock("norms"):
            norms = _norms(first.rollout, allocator.measure, train)
        estimates = _add(estimates, ids, missing > 0, first, step, plan, norms=norms, estimated=True)
    rates, sizes = np.nan_to_num(estimates.rates(ids)), estimates.norms(ids)
    kept = missing if plan.keep else np.zeros_like(missing)
    counts = plan.counts(sizes, rates, lab.experiment.rl.prompts * lab.experiment.rl.samples, drawn=kept)
    second = draw(problems, counts - kept, first=plan.draws)
    if second is not None:
        estimates = _add(estimates, ids, counts > kept, second, step, plan)
    stages = [stage for stage in (first, second) if stage is not None]
    rollout, groups = _together(stages if plan.keep else stages[-1:])
    require_scored(rollout, step)
    there, latest = np.unique(groups), np.nan_to_num(estimates.rates(ids))
    return Collected(
        rollout, np.searchsorted(there, groups).astype(np.int32), np.zeros(len(there), bool), drawn + 1,
        sum(int(stage.rollout.completions.lengths.sum()) for stage in stages), clock, estimates,
        rates=latest[there], weights=plan.answer_weights(counts, latest)[there],
        metrics=_metrics(missing, counts, sizes, rates))


def variances(allocator: Allocator, algorithm: Algorithm, policy: Parameters, batch: TrainBatch,
              collected: Collected) -> dict[str, float]:
    """The variance of the gradient at the output layer with the answers as they are shared out, and shared alike.

    Of the mean over problems of each one's mean of advantage times gradient; for methods that compare nothing, over
    the problem's acceptance rate, which is what `Gvm` minimises. Measured on the answers that are trained on; reused
    ones in groups of their own are left out.

    Args: batch: the step's answers in their order, with micro-batches.
    """
    assert collected.rates is not None
    with np.errstate(divide="ignore"):
        scale: np.ndarray = np.ones(len(collected.rates)) if algorithm.compares else 1 / collected.rates
    spread = allocator.spread(policy, batch)
    scale = np.pad(scale, (0, len(spread.counts) - len(scale)), constant_values=np.nan)
    allocated, alike = spread.compared(scale)
    return {"analysis/variance": allocated, "analysis/variance_alike": alike}


class Stage(NamedTuple):
    """Scored answers of one row each, in the order of the problems; groups: [N] which problem each is to."""

    rollout: Rollouts
    groups: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Stages:
    """Samples and scores any number of answers to each problem, in rollouts of one row an answer."""

    lab: Lab
    policy: Policy
    parameters: Parameters
    step: int
    clock: Clock

    def __call__(self, problems: Sequence[Problem], counts: np.ndarray, *, first: int) -> Stage | None:
        """`counts` answers to each problem, the number of its first one given; None when there are to be none."""
        if not counts.any():
            return None
        lab, rl = self.lab, self.lab.experiment.rl
        key = keys.derive(lab.experiment.seed, keys.Role.ROLLOUT, self.step)
        groups = np.repeat(np.arange(len(problems), dtype=np.int32), counts)
        with self.clock("rollout"):
            prompts, flat = sample_counts(self.policy, self.parameters, problems, counts, first, key, sampling_of(rl))
        prompts = Prompts(*(array[groups] for array in prompts))
        completions = Completions(*(array[:, None] for array in flat))
        with self.clock("verify"):
            return Stage(verify(self.policy, lab.verifier, [problems[group] for group in groups.tolist()], prompts,
                                completions), groups)


def _norms(rollout: Rollouts, measured: Measure | None, train: TrainState) -> np.ndarray | None:
    """[N] gradient norms of the accepted answers, 0 of the others."""
    if measured is None:
        return None
    rewards, norms = rollout.rewards.ravel(), np.zeros(rollout.rewards.size)
    right = np.flatnonzero(rewards > 0)
    norms[right] = measured(train, scored_answers(rollout.take(right), np.arange(len(right), dtype=np.int32),
                                                  rewards[right]))
    return norms


def _add(estimates: Estimates, ids: Sequence[str], chosen: np.ndarray, stage: Stage, step: int, plan: Gvm, *,
         norms: np.ndarray | None = None, estimated: bool = False) -> Estimates:
    """With what a stage found of the chosen problems."""
    found = accepted(stage.rollout.rewards.ravel(), stage.groups, norms, len(ids))
    return estimates.add([name for name, one in zip(ids, chosen, strict=True) if one],
                         Found(*(column[chosen] for column in found)), step, memory=plan.memory, estimated=estimated)


def _together(stages: Sequence[Stage]) -> Stage:
    """Answers of several stages, those to one problem behind one another."""
    groups = np.concatenate([stage.groups for stage in stages])
    order = np.argsort(groups, kind="stable")
    return Stage(join([stage.rollout for stage in stages]).take(order), groups[order])


def _metrics(missing: np.ndarray, counts: np.ndarray, sizes: np.ndarray, rates: np.ndarray) -> dict[str, float]:
    """What the allocation looks like; the bound is that of the variance of Lemma 1's estimator."""
    sampled = np.where(counts > 0, rates, 0)
    alike = variance_bound(np.full(len(counts), counts.mean()), sizes, sampled)
    return {"plan/first_stage": float(missing.sum()), "plan/unsampled": float((counts == 0).mean()),
            "plan/most": float(counts.max()), "plan/rate": float(rates.mean()),
            "plan/variance_bound": variance_bound(counts, sizes, sampled) / alike if alike else 1.0}
