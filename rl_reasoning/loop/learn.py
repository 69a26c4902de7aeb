"""From scored answers to the arrays of the updates: rewards to advantages, answers to packed mini-batches."""

from collections.abc import Callable

import jax
import numpy as np

from rl_reasoning.advantages import AdvantageInputs, Advantages, check_rewards
from rl_reasoning.algorithms import Algorithm
from rl_reasoning.config import RL
from rl_reasoning.rollouts import Policy
from rl_reasoning.training.batch import Answers, TrainBatch, minibatches
from rl_reasoning.training.update import Scores
from rl_reasoning.types import Rollouts

Critic = Callable[[TrainBatch], Scores]


def row_length(policy: Policy, rl: RL) -> int:
    """Tokens of a packed row: as set, or room for a prompt and all its answers."""
    return rl.row_length or policy.prompt_tokens + rl.samples * rl.max_tokens


def make_advantages(algorithm: Algorithm) -> Callable[[AdvantageInputs], Advantages]:
    """The algorithm's estimator, compiled."""
    return jax.jit(algorithm.advantage)


def scored_answers(rollouts: Rollouts, rewards: np.ndarray) -> Answers:
    """Every answer with its reward and the log-probabilities it was sampled with; no advantages yet."""
    completions, (count, samples) = rollouts.completions, rewards.shape
    ids = completions.ids.reshape(count * samples, -1)
    zeros = np.zeros(ids.shape, np.float32)
    flat = rewards.ravel()
    scorable = np.isfinite(flat)
    return Answers(
        rollouts.prompts.ids, rollouts.prompts.lengths, np.repeat(np.arange(count, dtype=np.int32), samples), ids,
        completions.lengths.ravel().astype(np.int32),
        extras={"old_logprobs": completions.logprobs.reshape(ids.shape), "advantages": zeros,
                "weights": scorable.astype(np.float32), "rewards": np.where(scorable, flat, 0).astype(np.float32),
                "values": zeros, "returns": zeros})


def with_advantages(answers: Answers, rewards: np.ndarray, algorithm: Algorithm,
                    estimate: Callable[[AdvantageInputs], Advantages], values: np.ndarray | None) -> Answers:
    """The answers with what the algorithm makes of their rewards.

    Args:
      rewards: [P, n], NaN where unscorable.
      values: [N, T], the critic's, or None without a critic.

    Raises:
      ValueError: a reward on which the algorithm is not defined.
    """
    if algorithm.rewards != "any":
        check_rewards(rewards, kind=algorithm.rewards)
    mask = np.arange(answers.ids.shape[1]) < answers.lengths[:, None]
    found = jax.device_get(estimate(AdvantageInputs(
        rewards=rewards.ravel(), groups=answers.groups, lengths=answers.lengths, mask=mask, values=values)))
    per_token = found.values if found.values.ndim == 2 else np.repeat(found.values[:, None], mask.shape[1], axis=1)
    extras = answers.extras | {"advantages": np.where(mask, per_token, 0).astype(np.float32), "weights": found.weights}
    if values is not None:
        extras |= {"values": values, "returns": found.returns}
    return Answers(**{**vars(answers), "extras": extras})


def critic_values(answers: Answers, rl: RL, length: int, critic: Critic) -> np.ndarray:
    """[N, T] values of the answers' tokens, before any update of this rollout."""
    parts = minibatches(answers, 1, rl.minibatches * rl.microbatches, length, order=None)
    real = parts[0].lengths > 0
    return np.asarray(critic(parts[0]).values)[real]


def updates(answers: Answers, rl: RL, length: int, rng: np.random.Generator) -> list[TrainBatch]:
    """The packed mini-batches of all epochs, each epoch in its own random order of whole groups."""
    groups = len(answers.prompt_lengths)
    return [batch for _ in range(rl.epochs)
            for batch in minibatches(answers, rl.minibatches, rl.microbatches, length, order=rng.permutation(groups))]
