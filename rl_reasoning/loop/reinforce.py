"""The reinforcement-learning loop: sample, verify, update, look; again."""

import collections
import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import optax

from rl_reasoning import advantages, keys, optim, rollouts
from rl_reasoning.algorithms import Algorithm
from rl_reasoning.allocation import Gvm
from rl_reasoning.analysis.logit_gradient import make_analysis
from rl_reasoning.data import Stream
from rl_reasoning.edge import ConfigError
from rl_reasoning.loop import reuse
from rl_reasoning.loop.allocate import Allocator, collect_allocated, make_allocator, variances
from rl_reasoning.loop.collect import Collected, collect
from rl_reasoning.loop.keeper import Keeper
from rl_reasoning.loop.learn import Learner, make_learner, mismatch_metrics, next_kl_coefficient, row_length
from rl_reasoning.loop.overlap import Ahead, Lender
from rl_reasoning.loop.setup import Lab
from rl_reasoning.loop.state import LoopState
from rl_reasoning.loop.stops import Stopped, Stops
from rl_reasoning.loop.watch import Diverged, NothingInformative, TrainingFailed, dump, repetition, watch
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.options import of_run
from rl_reasoning.parallel.exchange import fetch
from rl_reasoning.reporting.console import Progress, say
from rl_reasoning.reporting.writers import MetricWriter
from rl_reasoning.rollouts import NothingScored
from rl_reasoning.training.batch import Answers
from rl_reasoning.training.state import TrainState, start
from rl_reasoning.training.states import memory_of
from rl_reasoning.training.update import make_score, make_update
from rl_reasoning.types import Rollouts, Verdict

UNSCORABLE_ALARM = 0.02


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
    allocator: Allocator | None = None


def make_trainer(lab: Lab, name: str) -> Trainer:
    """Compiles nothing yet: functions are compiled at their first call."""
    rl, seed, config = lab.experiment.rl, lab.experiment.seed, lab.policy.config
    algorithm = of_run(name, lab.experiment)
    optimizer = optim.policy_and_critic(rl.optimizer, rl.steps * rl.epochs * rl.minibatches,
                                        algorithm.critic.rate if algorithm.critic else 1.0)
    update = make_update(config, algorithm.objective(rl.max_tokens, reference=uses_reference(algorithm, rl.reference)),
                         optimizer, temperature=rl.temperature, key=keys.derive(seed, keys.Role.UPDATE, 0),
                         memory=memory_of(rl), layout=lab.layout)
    learner = make_learner(algorithm, rl, row_length(lab.policy, rl), lab.shards,
                           make_score(config, rl.temperature, memory_of(rl), lab.layout))
    return Trainer(lab, algorithm, optimizer, update, learner, make_analysis(config, rl.temperature),
                   Stream(lab.train, rl.prompts, seed, weights=lab.data.weights if lab.data else None),
                   make_allocator(lab.policy, algorithm.plan, rl) if isinstance(algorithm.plan, Gvm) else None)


def uses_reference(algorithm: Algorithm, wanted: bool) -> bool:
    """Whether answers are scored under the reference policy: it is asked for, or the algorithm needs it."""
    return wanted or algorithm.kl.coefficient > 0


def begin(trainer: Trainer, parameters: Parameters) -> LoopState:
    """The state before the first step; `parameters` are copied, for the sampler too where it needs its own."""
    algorithm = trainer.algorithm
    train = start(trainer.lab.policy.config, parameters, trainer.optimizer,
                  critic=algorithm.critic.model if algorithm.critic else None, layout=trainer.lab.layout)
    return LoopState(train, 0, algorithm.kl.coefficient, lent=Lender(trainer.lab).begin(train))


def reinforce(trainer: Trainer, parameters: Parameters, writer: MetricWriter, keeper: Keeper, stops: Stops,
              look: Callable[[int, Parameters, Progress], None]) -> None:
    """Trains from `parameters`, which stay as they are and are the reference, or goes on from the newest checkpoint.

    Args:
      look: called after each step with its number and the parameters, and once after a checkpoint that is gone on
        from; for evaluations.

    Raises:
      TrainingFailed, Stopped: see there; what can be saved is saved.
      ConfigError: see `Keeper.resume`.
    """
    experiment = trainer.lab.experiment
    run = _Run(trainer, parameters, writer, keeper, keeper.resume(begin(trainer, parameters),
                                                                  changed=experiment.resume_changed))
    if run.state.step > experiment.rl.steps:
        raise ConfigError(f"config.rl.steps = {experiment.rl.steps}: the run has {run.state.step} behind it already")
    stops.last_resort = lambda: keeper.save_if_intact(run.state)
    with _ahead(run) as run.ahead:
        try:
            with Progress(experiment.rl.steps, experiment.algorithm) as progress:
                if run.state.step:
                    look(run.state.step, run.state.train.averaged.whole["policy"], progress)
                while run.state.step < experiment.rl.steps:
                    run.step(stops, progress)
                    look(run.state.step, run.state.train.averaged.whole["policy"], progress)
        except Stopped:
            stops.arrived()
            keeper.save_last(run.state)
            raise


def _ahead(run: "_Run") -> contextlib.AbstractContextManager[Ahead | None]:
    """What makes the answers while updates go on; nothing where sampler and trainer take turns."""
    def make(lab: Lab, state: LoopState, step: int) -> Collected:
        return gather(dataclasses.replace(run.trainer, lab=lab), state, step)

    lab = run.trainer.lab
    return Ahead(lab, make, run.state) if lab.experiment.rl.stale else contextlib.nullcontext()


@dataclasses.dataclass
class _Run:
    """A run under way; `state` is always that after a whole step."""

    trainer: Trainer
    reference: Parameters
    writer: MetricWriter
    keeper: Keeper
    state: LoopState
    ahead: Ahead | None = None

    def step(self, stops: Stops, progress: Progress) -> None:
        """One step. A stop during the rollout leaves it; a stop during the updates, which use up the state that they
        start from, waits for them and their records."""
        step, lab = self.state.step + 1, self.trainer.lab
        settings = lab.experiment
        lab.hosts.enter("rollout", step)
        collected = self.ahead.take() if self.ahead else gather(self.trainer, self.state, step)
        with stops.shield():
            lab.hosts.enter("update", step)
            state, metrics, timings = learn(self.trainer, self.state, collected, step, self.reference)
            self.writer.metrics(step, "rl", metrics)
            progress.update(step, metrics, timings["tokens_per_second"])
            try:
                streaks = watch(settings.watch, self.state.streaks, step, metrics)
            except Diverged as error:
                raise self._gone_back(error, step, collected) from None
            except NothingInformative:
                self.keeper.save_last(state)
                raise
            self.state = state._replace(streaks=streaks)
            if self.ahead:
                self.ahead.go_on(self.state)
            self._compare_replicas(step)
            if not streaks.get("skipped"):  # what comes out of such steps is not what to go back to
                timings |= self.keeper.after_step(self.state, metrics["reward/mean"], last=step == settings.rl.steps)
            self.writer.timings(step, "rl", timings)

    def _compare_replicas(self, step: int) -> None:
        """T53: whether all devices and processes that hold a copy of a parameter hold the same."""
        every, lab = self.trainer.lab.experiment.distributed.replicas_every, self.trainer.lab
        if lab.layout and every and step % every == 0:
            lab.hosts.same(self.state.train.parameters, step)

    def _gone_back(self, error: Diverged, step: int, collected: Collected) -> TrainingFailed:
        """The failure with all that helps: the step's answers are written, and what was saved since is removed."""
        folder = self.writer.folder.path
        dump(folder / "faults" / f"step_{step:04d}.jsonl", collected.rollout, collected.sampled_by)
        left = self.keeper.go_back(error.since)
        return TrainingFailed(f"{error}. The step's answers are in {folder / 'faults'}; the checkpoint of step {left} "
                              "is what the run goes back to")


def train_step(trainer: Trainer, state: LoopState, step: int,
               reference: Parameters) -> tuple[LoopState, dict[str, float], dict[str, float]]:
    """One rollout and its updates; returns the new state, the metrics and the seconds of each part.

    Args: reference: parameters of the policy that distances are measured from.
    """
    return learn(trainer, state, gather(trainer, state, step), step, reference)


def gather(trainer: Trainer, state: LoopState, step: int) -> Collected:
    """A step's answers, scored; `state` stays as it is. Raises TrainingFailed when no answer could be scored."""
    try:
        return _collect(trainer, state, step)
    except NothingScored as error:
        raise TrainingFailed(str(error)) from None


def learn(trainer: Trainer, state: LoopState, collected: Collected, step: int,
          reference: Parameters) -> tuple[LoopState, dict[str, float], dict[str, float]]:
    """The updates that a step's answers are worth; uses `state` up. Returns: see `train_step`."""
    lab, algorithm, clock = trainer.lab, trainer.algorithm, collected.clock
    with clock("update"):
        train, answers, metrics = _learn(trainer, state, collected, reference, step,
                                         np.random.default_rng([lab.experiment.seed, keys.Role.CONTROL, step]))
    coefficient = next_kl_coefficient(algorithm, state.kl_coefficient, metrics.get("policy/kl_reference", 0.0),
                                      collected.rollout.rewards.size)
    metrics = describe(collected.rollout, collected.groups) | _other_metrics(trainer, state, collected) | metrics
    timings = {f"time/{name}": seconds for name, seconds in clock.seconds.items()}
    timings["tokens_per_second"] = collected.tokens / timings["time/rollout"]
    timings |= lab.verifier.counts() | lab.policy.engine.counts()
    alarm(collected.rollout.verdicts, f"step {step}")
    history = reuse.remembered(algorithm.replay, state.history, collected, answers, step)
    return LoopState(train, collected.drawn, coefficient, step, state.streaks, collected.estimates, history,
                     Lender(lab).after(step, train, state.lent)), metrics, timings


def _collect(trainer: Trainer, state: LoopState, step: int) -> Collected:
    """A step's answers by the algorithm's plan."""
    lab, algorithm, (number, policy) = trainer.lab, trainer.algorithm, state.sampled_by
    if trainer.allocator:
        found = collect_allocated(lab, algorithm, state.train, trainer.allocator, trainer.batches, state.drawn, step,
                                  state.estimates)
    else:
        found = collect(lab, algorithm, policy, trainer.batches, state.drawn, step, state.estimates)
    return dataclasses.replace(found, sampled_by=number)


def _other_metrics(trainer: Trainer, state: LoopState, collected: Collected) -> dict[str, float]:
    """What the plan has to say, and what only some algorithms do."""
    found = {"tokens/generated": float(collected.tokens), **collected.metrics}
    if trainer.lab.experiment.rl.stale:
        found["rollout/staleness"] = float(state.step - collected.sampled_by)
    if trainer.algorithm.kl.target:
        found["kl/coefficient"] = state.kl_coefficient
    if collected.greedy is not None:
        found["reward/greedy"] = float(np.nanmean(collected.greedy)) if np.isfinite(collected.greedy).any() else 0.0
    return found


def _learn(trainer: Trainer, state: LoopState, collected: Collected, reference: Parameters, step: int,
           rng: np.random.Generator) -> tuple[TrainState, Answers, dict[str, float]]:
    """The updates that a rollout is worth, what they read, and their metrics."""
    rl, learner, train = trainer.lab.experiment.rl, trainer.learner, state.train
    given = reference if uses_reference(trainer.algorithm, rl.reference) else None
    recalled = reuse.recalled(trainer.algorithm.replay, state.history, collected, step, trainer.lab.experiment.seed)
    answers = learner.answers(collected, train.whole, given, state.kl_coefficient, rng, recalled)
    analysed = reuse.metrics(answers) | mismatch_metrics(answers)
    if rl.analysis_every and step % rl.analysis_every == 0:
        found = fetch(trainer.analyse(train.whole["policy"], learner.whole(answers)))
        analysed |= {name: float(value) for name, value in found.items()}
        if trainer.allocator:
            analysed |= variances(trainer.allocator, trainer.algorithm, train.whole["policy"], learner.whole(answers),
                                  collected)
    each, padding = [], []
    for batch in learner.updates(answers, rng):
        padding.append(batch.padding)
        train, metrics = trainer.update(train, batch)
        each.append(metrics)
    each = fetch(each)
    means = {name: float(np.mean([metrics[name] for metrics in each])) for name in each[0]}
    # Before the first update, sampler and trainer hold the same parameters unless they are at work at once: what
    # differs is their arithmetic.
    means["mismatch/max"] = float(each[0]["ratio/log_max"])
    means["ratio/log_max"] = float(np.max([metrics["ratio/log_max"] for metrics in each]))
    means["tokens/padding"] = float(np.mean(padding))
    return train, answers, means | analysed


def alarm(verdicts: Iterable[Iterable[Verdict]], when: str) -> None:
    """Says so when more than `UNSCORABLE_ALARM` of the answers could not be scored, with the commonest reason."""
    every = list(itertools.chain.from_iterable(verdicts))
    reasons = collections.Counter(verdict.reason for verdict in every if not verdict.scorable)
    if reasons.total() > UNSCORABLE_ALARM * len(every):
        reason, count = reasons.most_common(1)[0]
        say(f"WARNING: {when}: {reasons.total()} of {len(every)} answers could not be scored; {count} times: {reason}")


def describe(rollout: Rollouts, groups: np.ndarray) -> dict[str, float]:
    """What the answers of a rollout look like. groups: [N] which problem each is to."""
    rewards, lengths = rollout.rewards, rollout.completions.lengths
    valid = np.isfinite(rewards)
    best, worst = advantages.extremes(rewards.ravel(), groups)
    some = best >= worst
    outcomes = np.asarray([[verdict.outcome for verdict in row] for row in rollout.verdicts])
    return {
        "reward/mean": float(rewards[valid].mean()),
        "reward/right": float((rewards[valid] == 1).mean()),
        "reward/unscorable": float(1 - valid.mean()),
        "format/share": float((outcomes[valid] != "unparsable").mean()),
        "groups/all_right": float((some & (worst == 1)).mean()),
        "groups/all_wrong": float((some & (best == worst) & (best <= 0)).mean()),
        "groups/mixed": float((best > worst).mean()),
        "length/mean": float(lengths.mean()),
        "length/truncated": float(rollout.truncated.mean()),
        "length/repetition": repetition(rollout.completions.ids.reshape(lengths.size, -1), lengths.ravel()),
        **rollouts.second_opinions([rollout]),
    }
