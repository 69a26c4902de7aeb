"""Majority votes against every subset."""

import collections
import itertools

import numpy as np
import pytest

from rl_reasoning.evaluation.votes import majority_at_k

ANSWERS = ["3", "3", "4", None, "4", "5", "3", None]
RIGHT = [True, True, False, False, False, True, False, False]  # "3" was judged right in two texts of three


def brute_force(answers, right, k):
    """The mean over all subsets of k answers of what the winners are worth."""
    credit = {name: np.mean([r for a, r in zip(answers, right, strict=True) if a == name])
              for name in set(answers) - {None}}
    worth = []
    for chosen in itertools.combinations(range(len(answers)), k):
        votes = collections.Counter(answers[i] for i in chosen if answers[i] is not None)
        top = max(votes.values(), default=0)
        worth.append(np.mean([credit[name] for name in votes if votes[name] == top]) if votes else 0.0)
    return np.mean(worth)


def test_equals_all_subsets():
    ks = (1, 2, 3, 5, 8)
    found = majority_at_k(ANSWERS, RIGHT, ks, np.random.default_rng(0), draws=40_000)
    expected = [brute_force(ANSWERS, RIGHT, k) for k in ks]
    np.testing.assert_allclose(found, expected, atol=4 * 0.5 / np.sqrt(40_000))
    assert found[-1] == pytest.approx(expected[-1], abs=1e-12), "all of them together leave nothing to chance"


@pytest.mark.parametrize(("answers", "right", "expected"), [
    (["7"] * 4, [True] * 4, 1.0), ([None] * 4, [False] * 4, 0.0), (["1", "2"], [True, False], 0.5),
    (["1", "2", "2"], [True, False, False], 0.0)])
def test_ends(answers, right, expected):
    assert majority_at_k(answers, right, [len(answers)], np.random.default_rng(0))[0] == expected


def test_the_order_of_ks_is_kept_and_one_out_of_range_is_refused():
    forth = majority_at_k(ANSWERS, RIGHT, (1, 4), np.random.default_rng(0))
    back = majority_at_k(ANSWERS, RIGHT, (4, 1), np.random.default_rng(0))
    assert forth.tolist() == back[::-1].tolist()
    with pytest.raises(ValueError, match=r"must lie in 1\.\.8"):
        majority_at_k(ANSWERS, RIGHT, (1, 9), np.random.default_rng(0))
