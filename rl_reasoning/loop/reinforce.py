"""The reinforcement-learning loop: sample, verify, update, look; again."""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from rl_reasoning import keys, optim, rollouts
from rl_reasoning.algorithms import Algorithm
from rl_reasoning.analysis.logit_gradient import make_analysis
from rl_reasoning.data import Stream
from rl_reasoning.loop.collect import Collected, collect, is_mixed
from rl_reasoning.loop.learn import Learner, make_learner, next_kl_coefficient, row_length
from rl_reasoning.loop.setup import Lab
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.options import resolve
from rl_reasoning.reporting.console import Progress, say
from rl_reasoning.reporting.writers import MetricWriter
from rl_reasoning.rollouts import NothingScored
from rl_reasoning.training.state import TrainState, start
from rl_reasoning.training.states import Memory
from rl_reasoning.training.update import make_score, make_update
from rl_reasoning.types import Rollouts, Verdict

IN_A_ROW = 5
UNSCORABLE_ALARM = 0.02


class TrainingFailed(RuntimeError):
    """The run cannot go on: nothing could be scored, or the gradient stayed without a finite value."""


class LoopState(NamedTuple):
    """All that one step hands to the next.

    train: parameters and optimizer. drawn: batches of problems taken from the stream. kl_coefficient: of the penalty
    in the reward.
    """

    train: TrainState
    drawn: int
    kl_coefficient: float


@dataclasses.dataclass(frozen=True)
class Trainer:
    """What one algorithm's run holds on to: compiled functions and the stream of problems."""

    lab: Lab
    algorithm: Algorithm
    optimizer: optax.GradientTransformation
    update: Callable[..., Any]
    learner: Learner
    analyse: Callable[..., Any]
    batches: Stream


def make_trainer(lab: Lab, name: str) -> Trainer:
    """Compiles nothing yet: functions are compiled at their first call."""
    rl, seed, config = lab.experiment.rl, lab.experiment.seed, lab.policy.config
    algorithm = resolve(name, lab.experiment.objective)
    optimizer = optim.policy_and_critic(rl.optimizer, rl.steps * rl.epochs * rl.minibatches,
                                        algorithm.critic.rate if algorithm.critic else 1.0)
    update = make_update(config, algorithm.objective(rl.max_tokens, reference=uses_reference(algorithm, rl.reference)),
                         optimizer, temperature=rl.temperature, key=keys.derive(seed, keys.Role.UPDATE, 0),
                         memory=Memory(rl.remat, rl.logits), layout=lab.layout)
    learner = make_learner(algorithm, rl, row_length(lab.policy, rl), lab.shards,
                           make_score(config, rl.temperature, Memory(rl.remat, rl.logits), lab.layout))
    return Trainer(lab, algorithm, optimizer, update, learner, make_analysis(config, rl.temperature),
                   Stream(lab.train, rl.prompts, seed, weights=lab.data.weights if lab.data else None))


def uses_reference(algorithm: Algorithm, wanted: bool) -> bool:
    """Whether answers are scored under the reference policy: it is asked for, or the algorithm needs it."""
    return wanted or algorithm.kl.coefficient > 0


def begin(trainer: Trainer, parameters: Parameters) -> LoopState:
    """The state before the first step; `parameters` are copied."""
    algorithm = trainer.algorithm
    train = start(trainer.lab.policy.config, parameters, trainer.optimizer,
                  critic=algorithm.critic.model if algorithm.critic else None, layout=trainer.lab.layout)
    return LoopState(train, 0, algorithm.kl.coefficient)


def reinforce(trainer: Trainer, parameters: Parameters, writer: MetricWriter,
              look: Callable[[int, Parameters, Progress], None]) -> Parameters:
    """Trains from `parameters`, which stay as they are and are the reference, and returns what was trained:
    all of them, or the adapters.

    Args:
      look: called after each step with its number and the parameters: evaluations and checkpoints.

    Raises:
      TrainingFailed: see there.
    """
    steps, state, bad = trainer.lab.experiment.rl.steps, begin(trainer, parameters), _Streaks()
    with Progress(steps, trainer.lab.experiment.algorithm) as progress:
        for step in range(1, steps + 1):
            state, metrics, timings = train_step(trainer, state, step, parameters)
            writer.metrics(step, "rl", metrics)
            writer.timings(step, "rl", timings)
            progress.update(step, metrics, timings["tokens_per_second"])
            bad.check(trainer.algorithm, step, metrics)
            look(step, state.train.whole["policy"], progress)
    return state.train.parameters["policy"]


@dataclasses.dataclass
class _Streaks:
    """Steps in a row that went wrong in one way."""

    skipped: int = 0
    idle: int = 0

    def check(self, algorithm: Algorithm, step: int, metrics: dict[str, float]) -> None:
        """Raises TrainingFailed when it is time to stop; says so once when nothing is left to learn from."""
        self.skipped = self.skipped + 1 if metrics["optimizer/skipped"] == 1 else 0
        self.idle = self.idle + 1 if metrics["optimizer/idle"] == 1 else 0
        if self.skipped == IN_A_ROW:
            raise TrainingFailed(f"no update of the last {IN_A_ROW} steps had a finite gradient: lower "
                                 "rl.optimizer.learning_rate, or look at metrics.jsonl for when it began")
        if self.idle == IN_A_ROW:
            drawn = f" in {algorithm.plan.refill + 1} rounds of problems" if algorithm.plan.refill else ""
            say(f"step {step}: nothing to learn from for {IN_A_ROW} steps; no answer counted{drawn}: "
                "groups/all_right and groups/all_wrong in metrics.jsonl say why")


def train_step(trainer: Trainer, state: LoopState, step: int,
               reference: Parameters) -> tuple[LoopState, dict[str, float], dict[str, float]]:
    """One rollout and its updates; returns the new state, the metrics and the seconds of each part.

    Args: reference: parameters of the policy that distances are measured from.
    """
    lab, algorithm, seed = trainer.lab, trainer.algorithm, trainer.lab.experiment.seed
    try:
        collected = collect(lab, algorithm, state.train.whole["policy"], trainer.batches, state.drawn, step)
    except NothingScored as error:
        raise TrainingFailed(str(error)) from None
    clock = collected.clock
    with clock("update"):
        train, metrics = _learn(trainer, state, collected, reference, step,
                                np.random.default_rng([seed, keys.Role.CONTROL, step]))
    coefficient = next_kl_coefficient(algorithm, state.kl_coefficient, metrics.get("policy/kl_reference", 0.0),
                                      collected.rollout.rewards.size)
    metrics = describe(collected.rollout) | _plan_metrics(trainer, state, collected) | metrics
    timings = {f"time/{name}": seconds for name, seconds in clock.seconds.items()}
    timings["tokens_per_second"] = collected.tokens / timings["time/rollout"]
    timings |= lab.verifier.counts()
    alarm(collected.rollout.verdicts, f"step {step}")
    return LoopState(train, collected.drawn, coefficient), metrics, timings


def _plan_metrics(trainer: Trainer, state: LoopState, collected: Collected) -> dict[str, float]:
    """What only some algorithms have to say."""
    found = {}
    if trainer.algorithm.plan.refill:
        found["plan/rounds"] = float(collected.drawn - state.drawn)
        found["plan/informative"] = float(1 - collected.uniform.mean())
    if trainer.algorithm.kl.target:
        found["kl/coefficient"] = state.kl_coefficient
    if collected.greedy is not None:
        found["reward/greedy"] = float(np.nanmean(collected.greedy)) if np.isfinite(collected.greedy).any() else 0.0
    return found


def _learn(trainer: Trainer, state: LoopState, collected: Collected, reference: Parameters, step: int,
           rng: np.random.Generator) -> tuple[TrainState, dict[str, float]]:
    """The updates that a rollout is worth."""
    rl, learner, train = trainer.lab.experiment.rl, trainer.learner, state.train
    given = reference if uses_reference(trainer.algorithm, rl.reference) else None
    answers = learner.answers(collected, train.whole, given, state.kl_coefficient, rng)
    analysed = {}
    if rl.analysis_every and step % rl.analysis_every == 0:
        found = jax.device_get(trainer.analyse(train.whole["policy"], learner.whole(answers)))
        analysed = {name: float(value) for name, value in found.items()}
    each = []
    for batch in learner.updates(answers, rng):
        train, metrics = trainer.update(train, batch)
        each.append(metrics)
    each = jax.device_get(each)
    means = {name: float(np.mean([metrics[name] for metrics in each])) for name in each[0]}
    # Before the first update sampler and trainer hold the same parameters: what differs is their arithmetic.
    means["mismatch/max"] = float(each[0]["ratio/log_max"])
    means["ratio/log_max"] = float(np.max([metrics["ratio/log_max"] for metrics in each]))
    return train, means | analysed


def alarm(verdicts: Iterable[Iterable[Verdict]], when: str) -> None:
    """Says so when more than `UNSCORABLE_ALARM` of the answers could not be scored, with the commonest reason."""
    every = list(itertools.chain.from_iterable(verdicts))
    reasons = collections.Counter(verdict.reason for verdict in every if not verdict.scorable)
    if reasons.total() > UNSCORABLE_ALARM * len(every):
        reason, count = reasons.most_common(1)[0]
        say(f"WARNING: {when}: {reasons.total()} of {len(every)} answers could not be scored; {count} times: {reason}")


def describe(rollout: Rollouts) -> dict[str, float]:
    """What the answers of a rollout look like."""
    rewards, lengths = rollout.rewards, rollout.completions.lengths
    valid = np.isfinite(rewards)
    best, worst = np.where(valid, rewards, -np.inf).max(axis=1), np.where(valid, rewards, np.inf).min(axis=1)
    some = valid.any(axis=1)
    outcomes = np.asarray([[verdict.outcome for verdict in row] for row in rollout.verdicts])
    return {
        "reward/mean": float(rewards[valid].mean()),
        "reward/right": float((rewards[valid] == 1).mean()),
        "reward/unscorable": float(1 - valid.mean()),
        "format/share": float((outcomes[valid] != "unparsable").mean()),
        "groups/all_right": float((some & (worst == 1)).mean()),
        "groups/all_wrong": float((some & (best == worst) & (best <= 0)).mean()),
        "groups/mixed": float(is_mixed(rewards).mean()),
        "length/mean": float(lengths.mean()),
        "length/truncated": float(rollout.truncated.mean()),
        **rollouts.second_opinions([rollout]),
    }
