import numpy as np
import pytest

from rl_reasoning.advantages import outcome, overlong_penalty, raft, remax

NAN = float("nan")


def test_outcome_is_the_reward(batch):
    result = outcome(batch([0.5, NAN, -1]))
    np.testing.assert_array_equal(result.values, [0.5, 0, -1])
    np.testing.assert_array_equal(result.weights, [1, 0, 1])


def test_raft_accepts_what_is_right(batch):
    inputs = batch([1, -1, 0, NAN])
    np.testing.assert_array_equal(raft(inputs).values, [1, 0, 0, 0])
    np.testing.assert_array_equal(raft(inputs).weights, [1, 1, 1, 0])
    np.testing.assert_array_equal(raft(inputs, denominator="kept").weights, [1, 0, 0, 0])


def test_remax_subtracts_the_greedy_answer(batch):
    result = remax(batch([1, 0, 1, NAN], greedy_rewards=np.array([0.0, 1.0, NAN, 1.0], np.float32)))
    np.testing.assert_array_equal(result.values, [1, -1, 0, 0])
    np.testing.assert_array_equal(result.weights, [1, 1, 0, 0])
    with pytest.raises(ValueError, match="greedy_rewards is None"):
        remax(batch([1]))


def test_overlong_penalty_golden():
    lengths = np.array([1, 16384, 18432, 20480])
    penalty = overlong_penalty(lengths, max_length=20480, buffer=4096)
    np.testing.assert_allclose(penalty, [0, 0, -0.5, -1])
    np.testing.assert_allclose(overlong_penalty(lengths, max_length=20480, buffer=4096, factor=0.5), penalty / 2)


@pytest.mark.parametrize(("options", "match"), [
    ({"buffer": 0}, "buffer is 0; allowed: 1 <= buffer <= max_length"), ({"buffer": 11}, "buffer is 11"),
    ({"buffer": 2, "factor": -1}, "factor is -1; allowed: factor >= 0")])
def test_bad_options(options, match):
    with pytest.raises(ValueError, match=match):
        overlong_penalty(np.array([1]), max_length=10, **options)
