"""From scored answers to the arrays of the updates: rewards to advantages, answers to packed mini-batches."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from rl_reasoning import losses
from rl_reasoning.advantages import AdvantageInputs, Advantages, check_rewards
from rl_reasoning.algorithms import Algorithm
from rl_reasoning.allocation import Gvm
from rl_reasoning.allocation.replay import Recalled
from rl_reasoning.config import RL
from rl_reasoning.edge import ConfigError
from rl_reasoning.loop.collect import Collected
from rl_reasoning.loop.reuse import with_reused
from rl_reasoning.losses.kl import ESTIMATORS
from rl_reasoning.losses.mismatch import importance_weights
from rl_reasoning.losses.parts import Corrections
from rl_reasoning.losses.surrogate import clamp_log_ratio
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.parallel import Shards
from rl_reasoning.parallel.exchange import fetch
from rl_reasoning.rollouts import Policy
from rl_reasoning.training.batch import Answers, TrainBatch, no_extras, unpacked
from rl_reasoning.training.minibatches import minibatches, uneven_minibatches
from rl_reasoning.training.update import Scores
from rl_reasoning.types import Rollouts

Score = Callable[[dict[str, Parameters], TrainBatch], Scores]


def row_length(policy: Policy, rl: RL) -> int:
    """Tokens of a packed row: as set, or room for a prompt and all its answers."""
    return rl.row_length or policy.prompt_tokens + rl.samples * rl.max_tokens


@dataclasses.dataclass(frozen=True)
class Learner:
    """Turns a step's answers into mini-batches, by one algorithm.

    Attributes:
      length: tokens of a packed row.
      shards: into how many parts devices split a batch.
      score: scores a packed batch under any parameters.
      estimate: the algorithm's advantages, compiled.
      correct: the algorithm's mismatch correction, compiled.
    """

    algorithm: Algorithm
    rl: RL
    length: int
    shards: Shards
    score: Score
    estimate: Callable[[AdvantageInputs], Advantages]
    correct: Callable[..., Corrections]

    def answers(self, collected: Collected, parameters: dict[str, Parameters], reference: Parameters | None,
                kl_coefficient: float, rng: np.random.Generator, recalled: Recalled | None = None) -> Answers:
        """Every answer of a step with what the updates read of it (`training.batch.TrainBatch`).

        Beside that `extras["shaped"]`, the rewards with NaN where unscorable, and `extras["truncated"]`.

        Args:
          parameters: the current ones. reference: those of the reference policy; None without it.
          kl_coefficient: of a penalty inside the reward.
          rng: shuffles the rewards where the settings ask for that control.
          recalled: earlier answers that are trained on, too.

        Raises:
          ConfigError: a reward on which the algorithm is not defined.
        """
        if self.rl.shuffle_rewards:
            collected = dataclasses.replace(collected, rollout=_shuffled(collected.rollout, rng))
        answers = scored_answers(collected.rollout, collected.groups, self._shaped(collected.rollout))
        if recalled:
            answers = with_reused(answers, collected.problems, recalled)
        answers = self._scored(answers, parameters, reference)
        rewards, more = answers.extras["shaped"], (0, len(answers.prompt_lengths) - len(collected.uniform))
        found, returns = self._advantages(answers, rewards, collected, kl_coefficient)
        kept = self.algorithm.shaping.kept(rewards, answers.groups, answers.extras["truncated"])
        kept &= ~np.pad(collected.uniform, more)[answers.groups]
        problems = None if collected.weights is None else np.pad(collected.weights, more, constant_values=1)
        return self._weighted(answers, found, returns, kept, problems)

    def updates(self, answers: Answers, rng: np.random.Generator) -> list[TrainBatch]:
        """The packed mini-batches of all epochs, each epoch in its own random order of whole groups."""
        groups, rl = len(answers.prompt_lengths), self.rl
        return [batch for _ in range(rl.epochs) for batch in self._split(
            answers, rl.minibatches, rl.microbatches, self.length, rng.permutation(groups), shards=self.shards)]

    def whole(self, answers: Answers) -> TrainBatch:
        """All answers in their own order, as micro-batches of the size that updates use."""
        parts = self.rl.minibatches * self.rl.microbatches
        [batch] = self._split(answers, 1, parts, self.length, None, shards=self.shards)
        return batch

    @property
    def _split(self) -> Callable[..., list[TrainBatch]]:
        uneven = isinstance(self.algorithm.plan, Gvm) or self.algorithm.replay.on
        return uneven_minibatches if uneven else minibatches

    def _shaped(self, rollout: Rollouts) -> np.ndarray:
        """[N] rewards."""
        shaped = self.algorithm.shaping.rewards(rollout.rewards.ravel(), rollout.completions.lengths.ravel(),
                                                rollout.truncated.ravel(), self.rl.max_tokens)
        if self.algorithm.rewards != "any":
            try:
                check_rewards(shaped, kind=self.algorithm.rewards)
            except ValueError as error:
                raise ConfigError(f"the algorithm is not defined on what the verifier pays: {error}") from None
        return shaped

    def _scored(self, answers: Answers, parameters: dict[str, Parameters], reference: Parameters | None) -> Answers:
        """The answers with all that a forward pass before the updates can say, where anything reads it."""
        algorithm = self.algorithm
        extras: dict[str, np.ndarray] = {}
        scored = algorithm.critic or algorithm.mismatch.on or algorithm.replay.on or "sum_pi_squared" in algorithm.needs
        if not scored and reference is None:
            return answers
        batch = self.whole(answers)
        if scored:
            scores = jax.tree.map(lambda x: unpacked(batch, x), fetch(self.score(parameters, batch)))
            extras |= {"values": scores.values, "collision": scores.collision, "own_logprobs": scores.logp}
        if reference is not None:
            extras["ref_logprobs"] = unpacked(batch, fetch(self.score({"policy": reference}, batch).logp))
        return _with(answers, extras)

    def _advantages(self, answers: Answers, rewards: np.ndarray, collected: Collected,
                    kl_coefficient: float) -> tuple[Advantages, np.ndarray]:
        """Advantages, and the critic's targets [N, T]."""
        mask, extras, needs = answers.mask, answers.extras, self.algorithm.needs
        token_rewards = None
        if self.algorithm.kl.in_reward:
            token_rewards = -kl_coefficient * _distance(extras, mask, self.algorithm.kl.estimator)
            if not self.algorithm.token_rewards:
                rewards, token_rewards = rewards + token_rewards.sum(axis=1), None
        given = {
            "values": lambda: extras["values"],
            "greedy_rewards": lambda: np.asarray(collected.greedy)[answers.groups],
            "reward_components": lambda: collected.rollout.components.reshape(len(rewards), -1),
            "old_logp": lambda: extras["own_logprobs"],
            "sum_pi_squared": lambda: extras["collision"],
        }
        found = jax.device_get(self.estimate(AdvantageInputs(
            rewards=rewards, groups=answers.groups, lengths=answers.lengths, mask=mask, token_rewards=token_rewards,
            **{name: given[name]() for name in needs})))
        return found, extras["values"] if found.returns is None else found.returns

    def _weighted(self, answers: Answers, found: Advantages, returns: np.ndarray, kept: np.ndarray,
                  problem_weights: np.ndarray | None) -> Answers:
        """The answers with advantages, weights and corrections, token by token."""
        mask, extras = answers.mask, dict(answers.extras)
        values = found.values if found.values.ndim == 2 else np.repeat(found.values[:, None], mask.shape[1], axis=1)
        weights, scale = mask * (found.weights * kept)[:, None], mask.astype(np.float32)
        if self.algorithm.mismatch.on:
            corrected = jax.device_get(self.correct(extras["own_logprobs"], extras["old_logprobs"], mask))
            scale, extras["correction"], extras["cut"] = corrected.weights, corrected.weights, corrected.cut
            weights, extras["old_logprobs"] = weights * corrected.keep, extras["own_logprobs"]
        if "reused" in extras:
            reused, options = extras["reused"][:, None], self.algorithm.replay
            ratios = np.asarray(importance_weights(extras["own_logprobs"], answers.extras["old_logprobs"], mask,
                                                   level=options.level, high=options.high))
            scale = np.where(reused, ratios, scale)
            extras["old_logprobs"] = np.where(reused, extras["own_logprobs"], extras["old_logprobs"])
        if problem_weights is not None:
            scale = scale * problem_weights[answers.groups, None].astype(np.float32)
        return _with(answers, extras | {
            "advantages": np.where(mask, values, 0).astype(np.float32), "weights": weights.astype(np.float32),
            "scale": scale, "returns": returns})


def make_learner(algorithm: Algorithm, rl: RL, length: int, shards: Shards, score: Score) -> Learner:
    """Compiles nothing yet: functions are compiled at their first call."""
    return Learner(algorithm, rl, length, shards, score, jax.jit(algorithm.advantage),
                   jax.jit(algorithm.mismatch.corrections))


def next_kl_coefficient(algorithm: Algorithm, coefficient: float, kl: float, answers: int) -> float:
    """The penalty's coefficient after a step. kl: nats a token. answers: how many the step had."""
    if not algorithm.kl.target:
        return coefficient
    return losses.adaptive_kl_coefficient(coefficient, kl, target=algorithm.kl.target, steps=answers,
                                          horizon=algorithm.kl.horizon)


def mismatch_metrics(answers: Answers) -> dict[str, float]:
    """The mean weight that corrects for the policy that sampled, and the share of tokens whose weight was bounded; {}
    where nothing is corrected.
    """
    if "correction" not in answers.extras:
        return {}
    mask = answers.mask
    return {"mismatch/weight": float(answers.extras["correction"][mask].mean()),
            "mismatch/truncated": float(answers.extras["cut"][mask].mean())}


def scored_answers(rollout: Rollouts, groups: np.ndarray, rewards: np.ndarray) -> Answers:
    """Every answer with its reward and the log-probabilities it was sampled with; nothing counts yet.

    Args: groups: [N] which of the problems each answer is to. rewards: [N], NaN where unscorable.
    """
    completions, (count, samples) = rollout.completions, rollout.rewards.shape
    ids = completions.ids.reshape(count * samples, completions.ids.shape[-1])
    prompts = np.unique(groups, return_index=True)[1] // samples  # the row of each problem's first answer
    return Answers(
        rollout.prompts.ids[prompts], rollout.prompts.lengths[prompts], groups, ids,
        completions.lengths.ravel().astype(np.int32),
        extras=no_extras(*ids.shape) | {
            "old_logprobs": completions.logprobs.reshape(ids.shape), "scale": np.ones(ids.shape, np.float32),
            "rewards": np.nan_to_num(rewards, nan=0.0).astype(np.float32), "shaped": rewards,
            "truncated": rollout.truncated.ravel()})


def _shuffled(rollout: Rollouts, rng: np.random.Generator) -> Rollouts:
    """The same answers with each other's rewards: a control that must not learn."""
    count, samples, parts = rollout.components.shape
    order = rng.permutation(count * samples)
    return dataclasses.replace(rollout, rewards=rollout.rewards.ravel()[order].reshape(count, samples),
                               components=rollout.components.reshape(-1, parts)[order].reshape(count, samples, parts))


def _with(answers: Answers, extras: dict[str, np.ndarray]) -> Answers:
    return dataclasses.replace(answers, extras=answers.extras | extras)


def _distance(extras: dict[str, np.ndarray], mask: np.ndarray, estimator: str) -> np.ndarray:
    """[N, T]: the estimate, at each sampled token, of the distance of the policy that sampled from the reference."""
    log_ratio = clamp_log_ratio(np.where(mask, extras["old_logprobs"] - extras["ref_logprobs"], 0))
    return np.where(mask, np.asarray(ESTIMATORS[estimator](log_ratio)), 0)
