"""A process reward: a linear read-out of the frozen policy's hidden states says how likely an answer will be right."""

from collections.abc import Sequence

import jax
import numpy as np

from rl_reasoning import rollouts
from rl_reasoning.config import Sampling
from rl_reasoning.latent import steps
from rl_reasoning.latent.attempts import Answered, Reward, Scores
from rl_reasoning.models import value_head
from rl_reasoning.models.decoder import DecoderConfig, Parameters
from rl_reasoning.rollouts import Policy
from rl_reasoning.tasks.pool import Verifier
from rl_reasoning.types import Problem

RIDGE = 1e-3  # of the mean squared error, in units of the squared hidden states' mean


def by_value(config: DecoderConfig, parameters: Parameters, head: Parameters) -> Reward:
    """Each token's value less 1, cut to [-1, 0]; an answer's reward is that of its last token.

    Args: head: of `models.value_head`, such as `fit_value` or a critic's training gives.
    """
    def reward(answered: Answered) -> Scores:
        hidden = steps.states(parameters, answered.prompts, answered.ids, answered.lengths, config=config)[:, 1:]
        process = np.clip(np.asarray(value_head.values(head, hidden), float), 0, 1) - 1
        last = np.take_along_axis(process, answered.lengths[:, None] - 1, axis=1)[:, 0]
        return Scores(last, np.zeros(len(last), np.int64), process)

    return reward


def fit_value(policy: Policy, parameters: Parameters, verifier: Verifier, problems: Sequence[Problem],
              sampling: Sampling, key: jax.Array, batch: int) -> Parameters:
    """Least squares from the state after each token to whether the answer turned out right, over one answer a problem.

    Args: problems: some that are not to be searched. key: of the answers drawn. batch: answers at once.

    Raises:
      ValueError: fewer problems than one batch, or no answer could be judged.
    """
    if len(problems) < batch:
        raise ValueError(f"a value head needs at least one batch of {batch} problems to fit on, not {len(problems)}")
    size = policy.config.width + 1
    gram, moment = np.zeros((size, size)), np.zeros(size)
    for start in range(0, len(problems) - batch + 1, batch):
        states, right = _examples(policy, parameters, verifier, problems[start:start + batch], sampling, key)
        gram += states.T @ states
        moment += states.T @ right
    if not gram[-1, -1]:
        raise ValueError("no answer to a training problem could be judged, so that no value head can be fitted")
    ridge = RIDGE * np.trace(gram) / size * np.diag(np.arange(size) < size - 1)  # the bias is free
    *kernel, bias = np.linalg.solve(gram + ridge, moment)
    return {"kernel": np.asarray(kernel, np.float32), "bias": np.float32(bias)}


def _examples(policy: Policy, parameters: Parameters, verifier: Verifier, problems: Sequence[Problem],
              sampling: Sampling, key: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Hidden states with a 1 behind them [N, D + 1], of all tokens of the judged answers, and their outcomes [N]."""
    prompts, completions = rollouts.sample(policy, parameters, problems, range(1), key, sampling)
    rewards = rollouts.verify(policy, verifier, problems, prompts, completions).rewards[:, 0]
    lengths = completions.lengths[:, 0]
    hidden = np.asarray(steps.states(parameters, prompts, completions.ids[:, 0], lengths,
                                     config=policy.config), float)[:, 1:]
    inside = (np.arange(hidden.shape[1]) < lengths[:, None]) & np.isfinite(rewards)[:, None]
    states = np.concatenate([hidden, np.ones((*hidden.shape[:2], 1))], axis=-1)[inside]
    return states, np.broadcast_to((rewards == 1)[:, None], inside.shape)[inside].astype(float)
