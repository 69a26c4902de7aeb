"""Rewards of a search: 0 is good, -1 is bad, as published; NaN where there can be no reward."""

from collections.abc import Callable

import numpy as np

from rl_reasoning.latent import steps
from rl_reasoning.latent.attempts import Answered, Reward, Scores
from rl_reasoning.models.decoder import DecoderConfig, Parameters
from rl_reasoning.tasks.own import as_verdict
from rl_reasoning.tasks.pool import Verifier
from rl_reasoning.types import Outcome, Problem, Verdict


def perfect(verifier: Verifier) -> Reward:
    """The perfect sparse reward (arXiv 2505.13308, section 4.3): 0 for a right answer, -1 for any other.

    It knows the right answers, so it says what a search could reach and not what it reaches.
    """
    return _of_verdicts(verifier, lambda verdict: 0.0 if verdict.outcome == Outcome.RIGHT else -1.0)


def by_verifier(verifier: Verifier) -> Reward:
    """A verifier's reward less 1, so that the best is 0."""
    return _of_verdicts(verifier, lambda verdict: verdict.reward - 1)


def by_function(function: Callable[[Problem, str], float | Verdict]) -> Reward:
    """Any function of a problem and an answer's text, which is called here and now.

    Its number is the reward as it is; a `Verdict` counts as in `by_verifier`. What is neither is no reward.
    """
    def reward(answered: Answered) -> Scores:
        pairs = list(zip(answered.problems, answered.texts, strict=True))
        found = [function(problem, text) for problem, text in pairs]
        rewards = [as_verdict(value).reward - isinstance(value, Verdict) for value in found]
        return Scores(np.asarray(rewards, float), np.zeros(len(pairs), np.int64))

    return reward


def likelihood(config: DecoderConfig, parameters: Parameters) -> Reward:
    """The policy's own confidence: the geometric mean of the answer's token probabilities, less 1.

    It needs no words, so that any policy can have it; it knows no more than greedy decoding does.
    """
    def reward(answered: Answered) -> Scores:
        logp = steps.mean_logprobs(parameters, answered.prompts, answered.ids, answered.lengths, config=config)
        return Scores(np.exp(np.asarray(logp, float)) - 1, np.zeros(len(answered.texts), np.int64))

    return reward


def _of_verdicts(verifier: Verifier, value: Callable[[Verdict], float]) -> Reward:
    def reward(answered: Answered) -> Scores:
        verdicts = verifier.verify_all(zip(answered.problems, answered.texts, strict=True))
        rewards = [value(verdict) if verdict.scorable else np.nan for verdict in verdicts]
        return Scores(np.asarray(rewards, float), np.zeros(len(verdicts), np.int64))

    return reward
