"""Rewards: their scale, and that no fault becomes a low one."""

import numpy as np
import pytest

from rl_reasoning import rollouts
from rl_reasoning.config import Sampling
from rl_reasoning.latent import rewards
from rl_reasoning.latent.attempts import Answered
from rl_reasoning.latent.value import by_value, fit_value
from rl_reasoning.types import Outcome, Problem, Verdict
from tests.latent import tiny

VERDICTS = {"right": Verdict(Outcome.RIGHT, 1.0, "r", ""), "part": Verdict(Outcome.PARTIAL, 0.25, "p", ""),
            "wrong": Verdict(Outcome.WRONG, 0.0, "w", ""), "none": Verdict(Outcome.UNPARSABLE, 0.0, None, ""),
            "late": Verdict(Outcome.TIMEOUT, float("nan"), None, "")}


class Words:
    def verify_all(self, items):
        return [VERDICTS[text] for _, text in items]


def answered(texts):
    count = len(texts)
    return Answered([Problem("p", "", None, "t")] * count, texts, None, np.zeros((count, 2), np.int32),
                    np.ones(count, np.int32), np.zeros(count, np.int64))


def test_the_perfect_reward_is_sparse():
    found = rewards.perfect(Words())(answered(list(VERDICTS)))
    np.testing.assert_array_equal(found.rewards, [0, -1, -1, -1, np.nan])
    assert found.tokens.tolist() == [0] * 5


def test_a_verifiers_reward_is_best_at_zero():
    np.testing.assert_array_equal(rewards.by_verifier(Words())(answered(list(VERDICTS))).rewards,
                                  [0, -0.75, -1, -1, np.nan])


def test_any_function_can_be_the_reward():
    given = {"a": -0.5, "b": VERDICTS["part"], "c": None, "d": True, "e": VERDICTS["late"]}
    found = rewards.by_function(lambda problem, text: given[text])(answered(list(given)))
    np.testing.assert_array_equal(found.rewards, [-0.5, -0.75, np.nan, 1.0, np.nan])


def test_confidence_is_the_mean_of_what_the_sampler_says():
    sampling = Sampling(max_tokens=tiny.MOST)
    problems = tiny.PROBLEMS[:4]
    prompts, made = rollouts.sample(tiny.POLICY, tiny.PARAMETERS, problems, range(1), tiny.KEY, sampling)
    ids, lengths = made.ids[:, 0], made.lengths[:, 0]
    given = Answered(problems, [""] * 4, prompts, ids, lengths, np.zeros(4, np.int64))
    found = rewards.likelihood(tiny.CONFIG, tiny.PARAMETERS)(given).rewards
    np.testing.assert_allclose(found, np.exp(made.logprobs[:, 0].sum(axis=1) / lengths) - 1, rtol=1e-4)
    assert (found < 0).all()


class FirstWord:
    """A verifier: answers whose first word has an even number are right; the rest of the text does not matter."""

    def verify_all(self, items):
        return [VERDICTS["right" if text and int(text.split()[0][1:]) % 2 == 0 else "wrong"] for _, text in items]


@pytest.mark.slow
def test_a_value_head_learns_what_the_states_hold():
    """The first token is to be read from the state after it, so that a token's reward tells right from wrong."""
    sampling = Sampling(max_tokens=tiny.MOST)
    problems = [Problem(f"q{i}", f"w{i % 11} w{i % 7}", None, "tiny") for i in range(200)]
    head = fit_value(tiny.POLICY, tiny.PARAMETERS, FirstWord(), problems, sampling, tiny.KEY, 40)
    prompts, made = rollouts.sample(tiny.POLICY, tiny.PARAMETERS, problems[:40], range(1), tiny.KEY, sampling)
    ids, lengths = made.ids[:, 0], made.lengths[:, 0]
    texts = [tiny.POLICY.decode(*row) for row in zip(ids, lengths, strict=True)]
    found = by_value(tiny.CONFIG, tiny.PARAMETERS, head)(
        Answered(problems[:40], texts, prompts, ids, lengths, np.zeros(40, np.int64)))
    right = np.array([verdict.reward == 1 for verdict in FirstWord().verify_all(zip(problems, texts, strict=False))])
    assert found.process[right, 0].mean() > found.process[~right, 0].mean() + 0.2
    assert ((found.process >= -1) & (found.process <= 0)).all()
    np.testing.assert_array_equal(found.rewards, found.process[np.arange(40), lengths - 1])


def test_a_value_head_needs_judged_answers():
    class Silent:
        def verify_all(self, items):
            return [VERDICTS["late"] for _ in items]

    arguments = tiny.PROBLEMS[:4], Sampling(max_tokens=tiny.MOST), tiny.KEY
    with pytest.raises(ValueError, match="no answer to a training problem could be judged"):
        fit_value(tiny.POLICY, tiny.PARAMETERS, Silent(), *arguments, 4)
    with pytest.raises(ValueError, match="at least one batch of 5 problems"):
        fit_value(tiny.POLICY, tiny.PARAMETERS, Silent(), *arguments, 5)
