"""Methods side by side: what counts at which budget, and what the table says."""

import numpy as np
import pytest

from rl_reasoning.latent.attempts import Attempts
from rl_reasoning.latent.compare import Searched, budgets, judge, report, summaries
from rl_reasoning.rollouts import NothingScored
from rl_reasoning.types import Outcome, Problem, StopReason, Verdict


class Words:
    """A verifier: R is right, N is no answer at all, C crashes it."""

    def verify_all(self, items):
        found = {"R": Verdict(Outcome.RIGHT, 1.0, "r", "r"), "W": Verdict(Outcome.WRONG, 0.0, "w", "w"),
                 "N": Verdict(Outcome.UNPARSABLE, 0.0, None, "n"), "C": Verdict(Outcome.CRASH, float("nan"), None, "c")}
        return [found[text] for _, text in items]


class Letters:
    """A policy whose tokens are letters."""

    def decode(self, ids, length):
        return chr(ids[0])


def made(rows, rewards=None, tokens=2):
    """Attempts whose texts are the letters of a row."""
    most = max(map(len, rows))
    attempts = Attempts([Problem(f"p{i}", "", None, "t") for i in range(len(rows))], None, Letters(),
                        np.zeros((len(rows), most, 1), np.int32), np.ones((len(rows), most), np.int32),
                        np.zeros((len(rows), most), np.int8),
                        np.full((len(rows), most), np.nan), np.zeros((len(rows), most, 1)),
                        np.zeros((len(rows), most), np.int64), np.array([len(row) for row in rows]))
    for i, row in enumerate(rows):
        attempts.ids[i, :len(row), 0] = [ord(letter) for letter in row]
        attempts.tokens[i, :len(row)] = tokens
        attempts.rewards[i, :len(row)] = rewards[i] if rewards else 0
    return attempts


def searched(name, rows, rule="last", rewards=None, seconds=1.0):
    return judge(name, made(rows, rewards), rule, Words(), seconds)


def test_accuracy_at_a_budget_counts_what_is_returned_then():
    run = searched("latent", ["WWR", "R", "WRW"])
    assert run.right(2).tolist() == [0, 1, 0]
    assert run.right(4).tolist() == [0, 1, 1]
    assert run.right().tolist() == [1, 1, 0]
    assert run.spent(4).tolist() == [4, 2, 4]
    assert [record["returned"] for record in run.records()] == [False, False, True, True, False, False, True]


def test_best_and_vote():
    best = searched("best_of", ["WRW", "RWW"], "best", [[-1, -0.2, -0.5], [-1, -0.9, -1]])
    assert best.right().tolist() == [1, 0]
    vote = searched("majority", ["WRR", "NNW", "NNN", "WWR"], "vote", [[np.nan] * 3] * 4)
    assert vote.right().tolist() == [1, 0, 0, 0]
    assert vote.right(2).tolist() == [0, 0, 0, 0]


def test_a_broken_answer_is_judged_by_nobody():
    attempts = made(["WR", "R"])
    attempts.reasons[0, 1] = StopReason.NAN
    run = judge("latent", attempts, "last", Words(), 1.0)
    assert np.isnan(run.right()[0])
    assert run.verdicts[0][1].reason == "the policy's logits were not finite"
    assert run.right()[1] == 1


def test_budgets_double_up_to_what_was_spent():
    assert budgets([searched("a", ["W" * 6]), searched("b", ["W" * 4])], 2) == [2, 4, 8, 12]
    assert budgets([searched("a", ["W" * 40])], 1) == [1, 4, 16, 64, 80]
    assert budgets([searched("a", ["W"])], 2) == [2]


def test_summaries_and_tables():
    runs = [searched("greedy", ["R", "W", "W", "C"]), searched("latent", ["R", "WR", "WW", "WR"], seconds=8.0)]
    first, second = summaries(runs, [2, 4], resamples=200, seed=0)
    assert (first["problems"], first["unscorable"]) == (3, 1)  # what cannot be judged counts in no method
    assert first["accuracy"][1][0] == pytest.approx(1 / 3)
    assert second["accuracy"][1][0] == pytest.approx(2 / 3)
    assert second["change"][1][0] == pytest.approx(1 / 3)
    assert second["tokens"] == [2.0, 3.5]
    assert second["seconds"] == 2.0
    text = report([first, second])
    assert max(map(len, text.splitlines())) <= 120
    assert "over 3 problems" in text
    assert "could be judged: 1 problems" in text
    assert "33.3 [0.0" in text
    assert "+33.3 [+0.0" in text


def test_nothing_to_judge():
    with pytest.raises(NothingScored, match="no problem whose answers could be judged"):
        summaries([searched("greedy", ["C"])], [2], 10, 0)


def test_records_keep_the_order_of_answers():
    run = Searched("latent", made(["WR"]), "last", ((Words().verify_all([(None, "W")])[0],) * 2,), 0.0)
    assert [(record["attempt"], record["text"]) for record in run.records()] == [(0, "W"), (1, "R")]
