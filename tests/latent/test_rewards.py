"""Rewards: their scale, and that no fault becomes a low one."""

import numpy as np

from rl_reasoning.latent import rewards
from rl_reasoning.latent.attempts import Answered
from rl_reasoning.types import Outcome, Problem, Verdict

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
