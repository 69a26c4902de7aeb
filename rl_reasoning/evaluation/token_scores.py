"""How the log-probability of each token of some answers differs between two policies."""

import functools

import numpy as np

from rl_reasoning.models.decoder import Parameters
from rl_reasoning.parallel.exchange import fetch
from rl_reasoning.rollouts import Policy
from rl_reasoning.training.batch import Answers, TrainBatch, no_extras
from rl_reasoning.training.minibatches import minibatches
from rl_reasoning.training.update import make_score
from rl_reasoning.types import Rollouts

_score = functools.cache(make_score)


def change_of_logprobs(policy: Policy, parameters: Parameters, reference: Parameters, rollouts: Rollouts,
                       chosen: np.ndarray) -> np.ndarray:
    """[P, C, T]: log-probability under `parameters` minus that under `reference`, both at temperature 1.

    Args: chosen: [P, C], the numbers of the answers to each problem. What lies beyond an answer's length means nothing.
    """
    score = _score(policy.config, 1.0)
    batches = [_batch(policy, rollouts, p, row) for p, row in enumerate(chosen)]
    return np.stack([fetch(score({"policy": parameters}, batch).logp)[0]
                     - fetch(score({"policy": reference}, batch).logp)[0] for batch in batches])


def _batch(policy: Policy, rollouts: Rollouts, problem: int, row: np.ndarray) -> TrainBatch:
    """One problem with some of its answers in one row."""
    ids, count = rollouts.completions.ids[problem, row], len(row)
    answers = Answers(
        rollouts.prompts.ids[problem:problem + 1], rollouts.prompts.lengths[problem:problem + 1],
        np.zeros(count, np.int32), ids, rollouts.completions.lengths[problem, row],
        extras=no_extras(*ids.shape))
    return minibatches(answers, 1, 1, policy.prompt_tokens + count * ids.shape[1], order=None, rows=1)[0]
