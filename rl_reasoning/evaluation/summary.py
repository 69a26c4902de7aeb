"""From the records of answers to the numbers of an evaluation; no model is needed, only what was written down."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rl_reasoning.evaluation.pass_at_k import bootstrap_interval, pass_at_k, pass_at_k_summary, powers_of_two
from rl_reasoning.evaluation.votes import majority_at_k
from rl_reasoning.types import Outcome

UNSCORABLE = (Outcome.TIMEOUT, Outcome.CRASH)


class NothingToSummarize(ValueError):
    """No answer at all could be scored, so Pass@k is not defined."""


class _Answer(NamedTuple):
    """What the numbers need of one record; its text is not kept."""

    outcome: str
    right: bool
    scored: bool
    answer: str | None
    length: int | None
    stop: str | None
    logprob: float | None
    second: str | None
    reason: str


class Tally:
    """Collects records, as `evaluate.sample_records` makes them or a file gives them back, and sums them up.

    Only `problem`, `outcome` and `reward` are needed of a record; numbers that rest on others are left out where
    these are missing.
    """

    def __init__(self) -> None:
        self._answers: dict[str, list[_Answer]] = {}

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Counts some records in."""
        for record in records:
            reward = record["reward"]
            scored = reward is not None and math.isfinite(reward)
            self._answers.setdefault(str(record["problem"]), []).append(_Answer(
                str(record["outcome"]), scored and reward == 1, scored, record.get("answer"), record.get("length"),
                record.get("stop_reason"), record.get("logprob"), record.get("second"), record.get("reason", "")))

    @property
    def problems(self) -> tuple[str, ...]:
        """Ids in the order in which they came."""
        return tuple(self._answers)

    def sizes(self) -> list[int]:
        """[P] answers of each problem, the unscorable ones included."""
        return [len(row) for row in self._answers.values()]

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Right and scored answers of each problem, [P] each."""
        rows = self._answers.values()
        return (np.asarray([sum(each.right for each in row) for row in rows]),
                np.asarray([sum(each.scored for each in row) for row in rows]))

    def summary(self, samples: int, resamples: int, seed: int) -> dict[str, Any]:
        """Pass@k, maj@k and the averages, as the run folder keeps them.

        Args:
          samples: answers drawn for each problem, the unscorable ones included.
          resamples, seed: of the bootstrap over problems.

        Returns:
          {"problems", "samples", "ids": [P], "right": [P], "total": [P], "unscorable_problems",
          "pass_at_k": {"1": [mean, low, high], ...}, "maj_at_k": the same, "solved": problems with a right answer,
          "distinct_answers": mean over problems, "problem_entropy": [P], "entropy", "length", "lengths": by stop
          reason, "format", "accuracy_given_format", "truncated", "unscorable"}.

        Raises:
          NothingToSummarize: see there.
        """
        right, total = self.counts()
        known = total > 0
        if not known.any():
            first = next((each.reason for row in self._answers.values() for each in row), "there is no answer")
            raise NothingToSummarize(f"no answer of the evaluation could be scored; the first: {first}")
        return {
            "problems": len(right), "samples": samples, "ids": list(self.problems),
            "pass_at_k": pass_at_k_summary(right[known], total[known], samples, resamples, seed),
            "maj_at_k": self._majorities(samples, resamples, seed),
            "unscorable_problems": int((~known).sum()), "right": right.tolist(), "total": total.tolist(),
            "solved": int((right > 0).sum()),
            "distinct_answers": float(np.mean([len({each.answer for each in row} - {None})
                                               for row in self._answers.values()])),
            **_averages([each for row in self._answers.values() for each in row]),
            **self._entropies(),
        }

    def _entropies(self) -> dict[str, list[float]]:
        """Mean surprise of a token of each problem's answers, where the records hold what it takes."""
        rows = self._answers.values()
        if any(each.length is None or each.logprob is None for row in rows for each in row):
            return {}
        return {"problem_entropy": [-sum(each.logprob or 0 for each in row) / sum(each.length or 0 for each in row)
                                    for row in rows]}

    def _majorities(self, samples: int, resamples: int, seed: int) -> dict[str, list[float]]:
        rows = [[each for each in row if each.scored] for row in self._answers.values()]
        rows = [row for row in rows if row]
        ks = powers_of_two(samples, at_most=min(map(len, rows)))
        rng = np.random.default_rng(seed)
        each = np.stack([majority_at_k([one.answer for one in row], [one.right for one in row], ks, rng)
                         for row in rows])
        low, high = bootstrap_interval(each, resamples, seed)
        return {str(k): [float(mean), float(below), float(above)]
                for k, mean, below, above in zip(ks, each.mean(axis=0), low, high, strict=True)}


def every_k(right: np.ndarray, total: np.ndarray, resamples: int, seed: int) -> list[tuple[int, float, float, float]]:
    """(k, mean, low, high) of Pass@k for every k that all problems with a scored answer can estimate.

    Args: right, total: [P] of one evaluation, or [S, P] of several seeds, whose intervals then are over both.
    """
    right, total = np.asarray(right), np.asarray(total)
    known = (total > 0).reshape(-1, total.shape[-1]).all(axis=0)
    ks = np.arange(1, total[..., known].min() + 1)
    each = pass_at_k(right[..., known], total[..., known], ks.tolist())
    low, high = bootstrap_interval(each, resamples, seed)
    mean = each.reshape(-1, len(ks)).mean(axis=0)
    return [(int(k), float(m), float(a), float(b)) for k, m, a, b in zip(ks, mean, low, high, strict=True)]


def every_k_csv(right: np.ndarray, total: np.ndarray, resamples: int, seed: int) -> str:
    """`every_k` as CSV with the head k, mean, low, high."""
    rows = every_k(right, total, resamples, seed)
    return "".join(["k,mean,low,high\n", *(f"{k},{mean!r},{low!r},{high!r}\n" for k, mean, low, high in rows)])


def _averages(answers: Sequence[_Answer]) -> dict[str, Any]:
    """Shares and means over all answers."""
    outcomes = np.asarray([each.outcome for each in answers])
    unscorable = np.isin(outcomes, UNSCORABLE)
    parsed = ~unscorable & (outcomes != Outcome.UNPARSABLE)
    return {
        **_lengths(answers),
        "format": float(parsed.sum() / max(1, (~unscorable).sum())),
        "accuracy_given_format": float((outcomes == Outcome.RIGHT).sum() / max(1, parsed.sum())),
        "unscorable": float(unscorable.mean()),
        **_second_opinions(answers),
    }


def _lengths(answers: Sequence[_Answer]) -> dict[str, Any]:
    """Tokens and surprise, where the records hold them."""
    if any(each.length is None for each in answers):
        return {}
    lengths = np.asarray([each.length for each in answers])
    stops = np.asarray([str(each.stop) for each in answers])
    found: dict[str, Any] = {"length": float(lengths.mean()), "truncated": float((stops == "length").mean()),
                             "lengths": {str(stop): _spread(lengths[stops == stop]) for stop in np.unique(stops)}}
    if all(each.logprob is not None for each in answers):
        # An answer's surprise, summed over its tokens and averaged over tokens, estimates the entropy.
        found["entropy"] = -sum(each.logprob or 0 for each in answers) / int(lengths.sum())
    return found


def _spread(lengths: np.ndarray) -> dict[str, float]:
    return {"answers": len(lengths), "mean": float(lengths.mean()), "median": float(np.median(lengths)),
            "percentile_95": float(np.percentile(lengths, 95))}


def _second_opinions(answers: Sequence[_Answer]) -> dict[str, float]:
    pairs = [(each.outcome, each.second) for each in answers if each.second]
    if not pairs:
        return {}
    differ = [(one == Outcome.RIGHT) != (other == Outcome.RIGHT) for one, other in pairs]
    return {"grader/second": float(len(pairs)), "grader/disagreement": float(np.mean(differ))}
