"""Searches side by side: accuracy at the same number of generated tokens, and what a search costs."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rl_reasoning.evaluation.pass_at_k import bootstrap_interval, paired_difference
from rl_reasoning.latent.attempts import Attempts, vote
from rl_reasoning.reporting.table import percent, plain, points
from rl_reasoning.rollouts import BROKEN, NothingScored
from rl_reasoning.tasks.pool import Verifier
from rl_reasoning.types import Outcome, StopReason, Verdict

MOST_COLUMNS = 5


@dataclasses.dataclass(frozen=True)
class Searched:
    """A method's answers, judged.

    Attributes:
      rule: how the answer that counts is chosen: "last", "best" or "vote".
      verdicts: [P] rows, one verdict for each answer that was made.
      seconds: wall time of the search, compiling included.
    """

    name: str
    attempts: Attempts
    rule: str
    verdicts: tuple[tuple[Verdict, ...], ...]
    seconds: float

    def chosen(self, budget: float = np.inf) -> np.ndarray:
        """[P]: which answer is returned when a problem may generate `budget` tokens."""
        if self.rule == "vote":
            return vote([[verdict.answer for verdict in row] for row in self.verdicts], self.attempts.within(budget))
        return self.attempts.chosen(self.rule, budget)

    def right(self, budget: float = np.inf) -> np.ndarray:
        """[P]: 1 where the answer that is returned is right, 0 where it is not, NaN where that cannot be said."""
        returned = [row[i] for row, i in zip(self.verdicts, self.chosen(budget), strict=True)]
        return np.asarray([float(verdict.reward == 1) if verdict.scorable else np.nan for verdict in returned])

    def spent(self, budget: float = np.inf) -> np.ndarray:
        """[P]: tokens generated within the budget."""
        return np.where(self.attempts.within(budget), self.attempts.tokens, 0).sum(axis=1)

    def records(self) -> Iterator[dict[str, Any]]:
        """One JSON-able record an answer."""
        chosen, made = self.chosen(), self.attempts
        for p, (problem, verdicts) in enumerate(zip(made.problems, self.verdicts, strict=True)):
            for a, verdict in enumerate(verdicts):
                yield {"method": self.name, "problem": problem.id, "attempt": a, "text": made.text(p, a),
                       "tokens": int(made.tokens[p, a]), "reward": float(made.rewards[p, a]),
                       "outcome": verdict.outcome, "reason": verdict.reason, "returned": bool(a == chosen[p])}


def judge(name: str, attempts: Attempts, rule: str, verifier: Verifier, seconds: float) -> Searched:
    """Asks the verifier about every answer; one that the engine did not bring to its end is unscorable."""
    rows = [list(zip([p] * count, range(count), reasons, strict=False))
            for p, (count, reasons) in enumerate(zip(attempts.counts, attempts.reasons.tolist(), strict=True))]
    found = iter(verifier.verify_all((attempts.problems[p], attempts.text(p, a)) for row in rows for p, a, reason in row
                                     if reason not in BROKEN))
    verdicts = tuple(tuple(next(found) if reason not in BROKEN
                           else Verdict(Outcome.CRASH, math.nan, None, BROKEN[StopReason(reason)])
                           for _, _, reason in row) for row in rows)
    return Searched(name, attempts, rule, verdicts, seconds)


def budgets(runs: Sequence[Searched], answer: int) -> list[int]:
    """Tokens a problem: those of 1, 2, 4, ... longest answers, and at last the most that a problem spent."""
    most = max(int(run.spent().max()) for run in runs)
    doubled = [answer * 2**i for i in range(most.bit_length()) if answer * 2**i < most]
    step = max(1, -(-len(doubled) // (MOST_COLUMNS - 1)))
    return [*doubled[::step], most]


def summaries(runs: Sequence[Searched], at: Sequence[int], resamples: int, seed: int) -> list[dict[str, Any]]:
    """One record a method: accuracy at each budget as [mean, low, high], and what was spent.

    Problems whose returned answer cannot be judged, in any method at any budget, count in none.

    Raises:
      NothingScored: no problem is left.
    """
    right = np.asarray([[run.right(budget) for budget in at] for run in runs]).transpose(0, 2, 1)  # [methods, P, K]
    known = np.isfinite(right).all(axis=(0, 2))
    if not known.any():
        raise NothingScored("there is no problem whose answers could be judged for every method")
    records = []
    for run, values in zip(runs, right[:, known], strict=True):
        low, high = bootstrap_interval(values, resamples, seed)
        records.append({
            "method": run.name, "problems": int(known.sum()), "unscorable": int((~known).sum()), "budgets": list(at),
            "accuracy": [list(row) for row in zip(values.mean(axis=0), low, high, strict=True)],
            "tokens": [float(run.spent(budget).mean()) for budget in at],
            "answers": float(run.attempts.counts.mean()), "seconds": run.seconds / len(run.attempts.problems)})
        if run is not runs[0]:
            change = paired_difference(values, right[0, known], resamples, seed)
            records[-1]["change"] = [list(row) for row in zip(*change, strict=True)]
    return records


def report(records: Sequence[dict[str, Any]]) -> str:
    """Two tables of at most 120 columns: accuracy against tokens, then differences from the first method and costs."""
    at = records[0]["budgets"]
    heads = [f"{budget} tokens" for budget in at]
    accuracy = [["", *heads], *([row["method"], *(_interval(cell, percent) for cell in row["accuracy"])]
                                for row in records)]
    first = records[0]["method"]
    costs = [["", f"at {at[-1]} against {first}", "answers", "tokens", "seconds"]]
    for row in records:
        change = _interval(row["change"][-1], points) if "change" in row else "-"
        costs.append([row["method"], change, f"{row['answers']:.2f}", f"{row['tokens'][-1]:.1f}",
                      f"{row['seconds']:.4f}"])
    count, lost = records[0]["problems"], records[0]["unscorable"]
    title = f"Accuracy in percent over {count} problems, by the tokens that a problem may generate; 95 % intervals"
    note = f"left out, since not every answer could be judged: {lost} problems\n" if lost else ""
    return (f"{title}\n{note}{plain(accuracy)}\n\n"
            f"Difference in points, and what a problem took (seconds with compiling)\n{plain(costs)}\n")


def _interval(cell: Sequence[float], form: Any) -> str:
    mean, low, high = (form(value) for value in cell)
    return f"{mean} [{low}, {high}]"
