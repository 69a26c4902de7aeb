"""The numbers of an evaluation from its records alone."""

import numpy as np
import pytest

from rl_reasoning.config import Evaluation
from rl_reasoning.evaluation.evaluate import plan
from rl_reasoning.evaluation.pass_at_k import bootstrap_interval, pass_at_k
from rl_reasoning.evaluation.summary import NothingToSummarize, Tally, every_k


def record(problem, outcome, answer="3", **fields):
    reward = {"right": 1.0, "crash": float("nan")}.get(outcome, 0.0)
    return {"problem": problem, "outcome": outcome, "answer": answer, "reward": reward, "length": 4, "logprob": -2.0,
            "stop_reason": "eos", "reason": f"it is {outcome}"} | fields


RECORDS = [record("a", "right"), record("a", "wrong", "4"), record("a", "crash"), record("a", "right"),
           record("b", "unparsable", None, length=8, stop_reason="length"), record("b", "wrong", "9"),
           record("b", "wrong", "9"), record("b", "wrong", "8")]


@pytest.fixture(scope="module")
def summary():
    tally = Tally()
    tally.add(RECORDS[:3])
    tally.add(RECORDS[3:])
    return tally.summary(samples=4, resamples=50, seed=0)


def test_every_number_by_hand(summary):
    assert (summary["ids"], summary["right"], summary["total"]) == (["a", "b"], [2, 0], [3, 4])
    assert summary["pass_at_k"]["1"][0] == pytest.approx((2 / 3 + 0) / 2)
    assert list(summary["pass_at_k"]) == ["1", "2"], "a has three scored answers"
    assert summary["maj_at_k"]["1"][0] == pytest.approx(1 / 3, abs=0.06), "200 draws of one of three answers"
    assert (summary["solved"], summary["distinct_answers"]) == (1, 2.0)
    assert summary["lengths"]["length"] == {"answers": 1, "mean": 8.0, "median": 8.0, "percentile_95": 8.0}
    assert summary["lengths"]["eos"]["answers"] == 7
    assert summary["entropy"] == pytest.approx(16 / 36)
    assert (summary["unscorable"], summary["truncated"]) == (1 / 8, 1 / 8)
    assert (summary["format"], summary["accuracy_given_format"]) == (6 / 7, 2 / 6)


def test_nothing_scored_says_why():
    tally = Tally()
    tally.add([record("a", "crash")])
    with pytest.raises(NothingToSummarize, match="could be scored; the first: it is crash"):
        tally.summary(samples=1, resamples=10, seed=0)


def test_what_records_lack_is_left_out():
    tally = Tally()
    tally.add([{"problem": 7, "outcome": "right", "reward": 1.0}])
    found = tally.summary(samples=1, resamples=10, seed=0)
    assert found["pass_at_k"]["1"][0] == 1.0
    assert not {"length", "entropy", "lengths"} & set(found)


def test_every_k_is_there():
    right, total = np.array([0, 3, 5, 2]), np.array([0, 6, 5, 6])
    rows = every_k(right, total, 20, 0)
    assert [k for k, *_ in rows] == [1, 2, 3, 4, 5], "the problem without a scored answer is left out"
    np.testing.assert_allclose([mean for _, mean, *_ in rows], pass_at_k(right[1:], total[1:], range(1, 6)).mean(0))


@pytest.mark.slow
def test_intervals_cover_the_truth_in_about_95_of_100_evaluations():
    """128 problems of unknown difficulty, 32 answers each: how often the interval of Pass@k holds the true mean."""
    rng, ks, problems, held = np.random.default_rng(0), (1, 4, 32), 128, np.zeros(3)
    # Beta(1, 3) answers: E[1 - (1 - p)^k] = 1 - 3 / (3 + k).
    truth = 1 - 3 / (3 + np.array(ks))
    rounds = 1500
    for seed in range(rounds):
        right = rng.binomial(32, rng.beta(1, 3, problems))
        low, high = bootstrap_interval(pass_at_k(right, np.full(problems, 32), ks), 1000, seed)
        held += (low <= truth) & (truth <= high)
    assert (held / rounds >= 0.93).all()
    assert (held / rounds <= 0.97).all()


@pytest.mark.parametrize(("problems", "samples", "batch"), [(5, 4, 8), (5, 4, 100), (3, 10, 4), (1, 1, 1), (2, 3, 3)])
def test_the_plan_covers_every_answer_once_and_in_order(problems, samples, batch):
    parts = list(plan(problems, Evaluation(problems=problems, samples=samples, batch=batch)))
    found = [(p, i) for part in parts for p in range(part.first, part.first + part.count) for i in part.samples]
    assert found == [(p, i) for p in range(problems) for i in range(samples)]
    assert len({part.shape for part in parts}) == 1
    assert max(height * width for height, width in (part.shape for part in parts)) <= max(batch, 1)
