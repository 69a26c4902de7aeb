"""The reinforcement-learning loop: sample, verify, update, look; again."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from rl_reasoning import keys, optim, rollouts
from rl_reasoning.algorithms import Algorithm, resolve
from rl_reasoning.config import Sampling
from rl_reasoning.data import Stream
from rl_reasoning.loop import learn
from rl_reasoning.loop.setup import Lab
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.reporting.console import Progress
from rl_reasoning.reporting.writers import MetricWriter
from rl_reasoning.training.batch import Answers
from rl_reasoning.training.state import TrainState, start
from rl_reasoning.training.update import make_score, make_update
from rl_reasoning.types import Rollouts

SKIPPED_IN_A_ROW = 5


class TrainingFailed(RuntimeError):
    """The run cannot go on: nothing could be scored, or the gradient stayed without a finite value."""


@dataclasses.dataclass(frozen=True)
class Trainer:
    """What one algorithm's run holds on to: compiled functions and the stream of problems."""

    lab: Lab
    algorithm: Algorithm
    optimizer: optax.GradientTransformation
    update: Callable[..., Any]
    score: Callable[..., Any]
    estimate: Callable[..., Any]
    batches: Any
    length: int


def make_trainer(lab: Lab, name: str) -> Trainer:
    """Compiles nothing yet: functions are compiled at their first call."""
    rl, algorithm = lab.experiment.rl, resolve(name, lab.experiment.objective)
    count = rl.steps * rl.epochs * rl.minibatches
    optimizer = optim.policy_and_critic(rl.optimizer, count, algorithm.value_rate)
    update = make_update(lab.policy.config, algorithm.objective(rl.max_tokens), optimizer,
                         temperature=rl.temperature, remat=rl.remat)
    return Trainer(lab, algorithm, optimizer, update, make_score(lab.policy.config, rl.temperature),
                   learn.make_advantages(algorithm),
                   Stream(lab.train, rl.prompts, lab.experiment.seed,
                          weights=lab.data.weights if lab.data else None), learn.row_length(lab.policy, rl))


def reinforce(trainer: Trainer, parameters: Parameters, writer: MetricWriter,
              look: Callable[[int, Parameters, Progress], None]) -> Parameters:
    """Trains from `parameters`, which stay as they are, and returns the new ones.

    Args:
      look: called after each step with its number and the parameters: evaluations and checkpoints.

    Raises:
      TrainingFailed: see there.
    """
    rl = trainer.lab.experiment.rl
    state = start(trainer.lab.policy.config, parameters, trainer.optimizer, critic=trainer.algorithm.value > 0)
    skipped = 0
    with Progress(rl.steps, trainer.lab.experiment.algorithm) as progress:
        for step in range(1, rl.steps + 1):
            state, metrics, timings = train_step(trainer, state, step)
            writer.metrics(step, "rl", metrics)
            writer.timings(step, "rl", timings)
            progress.update(step, metrics, timings["tokens_per_second"])
            skipped = skipped + 1 if metrics["optimizer/skipped"] == 1 else 0
            if skipped == SKIPPED_IN_A_ROW:
                raise TrainingFailed(f"no update of the last {skipped} steps had a finite gradient: lower "
                                     "rl.optimizer.learning_rate, or look at metrics.jsonl for when it began")
            look(step, state.parameters["policy"], progress)
    return state.parameters["policy"]


def train_step(trainer: Trainer, state: TrainState, step: int) -> tuple[TrainState, dict[str, float], dict[str, float]]:
    """One rollout and its updates; returns the new state, the metrics and the seconds of each part."""
    rl, seed = trainer.lab.experiment.rl, trainer.lab.experiment.seed
    clock = [time.perf_counter()]
    problems = trainer.batches[step - 1]
    sampling = Sampling(temperature=rl.temperature, max_tokens=rl.max_tokens)
    prompts, completions = rollouts.sample(trainer.lab.policy, state.parameters["policy"], problems, range(rl.samples),
                                           keys.derive(seed, keys.Role.ROLLOUT, step), sampling)
    clock.append(time.perf_counter())
    rollout = rollouts.verify(trainer.lab.policy, trainer.lab.task, problems, prompts, completions)
    if not np.isfinite(rollout.rewards).any():
        raise TrainingFailed(f"no answer of step {step} could be scored; the first: {rollout.verdicts[0][0].reason}")
    clock.append(time.perf_counter())
    state, metrics = _learn(trainer, state, rollout, np.random.default_rng([seed, keys.Role.CONTROL, step]))
    clock.append(time.perf_counter())
    rollout_time, verify_time, update_time = np.diff(clock).tolist()
    timings = {"time/rollout": rollout_time, "time/verify": verify_time, "time/update": update_time,
               "tokens_per_second": int(completions.lengths.sum()) / rollout_time}
    return state, describe(rollout) | metrics, timings


def _learn(trainer: Trainer, state: TrainState, rollout: Rollouts,
           rng: np.random.Generator) -> tuple[TrainState, dict[str, float]]:
    """The updates that a rollout is worth."""
    rl = trainer.lab.experiment.rl
    rewards = rng.permuted(rollout.rewards) if rl.shuffle_rewards else rollout.rewards
    answers = learn.scored_answers(rollout, rewards)
    values = _values(trainer, state, answers)
    answers = learn.with_advantages(answers, rewards, trainer.algorithm, trainer.estimate, values)
    each = []
    for batch in learn.updates(answers, rl, trainer.length, rng):
        state, metrics = trainer.update(state, batch)
        each.append(metrics)
    each = jax.device_get(each)
    means = {name: float(np.mean([metrics[name] for metrics in each])) for name in each[0]}
    # Before the first update sampler and trainer hold the same parameters: what differs is their arithmetic.
    means["mismatch/max"] = float(each[0]["ratio/log_max"])
    means["ratio/log_max"] = float(np.max([metrics["ratio/log_max"] for metrics in each]))
    return state, means


def _values(trainer: Trainer, state: TrainState, answers: Answers) -> np.ndarray | None:
    if not trainer.algorithm.value:
        return None
    return learn.critic_values(answers, trainer.lab.experiment.rl, trainer.length,
                               lambda batch: trainer.score(state.parameters, batch))


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
        "groups/all_wrong": float((some & (best == 0)).mean()),
        "groups/mixed": float((some & (best > worst)).mean()),
        "length/mean": float(lengths.mean()),
        "length/truncated": float(rollout.completions.stop_reasons.mean()),
        **rollouts.second_opinions([rollout]),
    }
