"""Majority votes: how often the commonest of k answers is right."""

from collections.abc import Hashable, Sequence

import numpy as np

DRAWS = 200


def majority_at_k(answers: Sequence[Hashable | None], right: Sequence[bool], ks: Sequence[int],
                  rng: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
    """The expected share of right votes when k of a problem's answers vote, drawn without replacement.

    The most frequent answer wins; several that tie share the vote evenly. An answer of None is one that could not be
    read: it has no vote, and a vote in which nobody has one is wrong. An answer that was judged right in some texts
    and wrong in others counts by its share.

    Args:
      answers: [n], what was read from each text. right: [n], each one's verdict.
      ks: K values, each in 1..n.
      draws: random subsets for each k below n; k = n is exact.

    Returns:
      [K] float64 in [0, 1].

    Raises:
      ValueError: a k is out of range.
    """
    count = len(answers)
    if not ks or min(ks) < 1 or max(ks) > count:
        raise ValueError(f"ks = {tuple(ks)} must lie in 1..{count}, the number of answers that were scored")
    names = {answer: number for number, answer in enumerate(dict.fromkeys(a for a in answers if a is not None))}
    # The last class stands for those without a vote.
    voted = np.asarray([names.get(answer, len(names)) if answer is not None else len(names) for answer in answers])
    credit = _credits(voted, np.asarray(right, bool), len(names))
    order = rng.permuted(np.tile(np.arange(count), (draws, 1)), axis=1)
    counts, seen, found = np.zeros((draws, len(names) + 1), int), 0, {}
    for k in sorted(set(ks)):
        fresh = voted[order[:, seen:k]] + (len(names) + 1) * np.arange(draws)[:, None]
        counts += np.bincount(fresh.ravel(), minlength=counts.size).reshape(counts.shape)
        seen, found[k] = k, _won(counts[:1] if k == count else counts, credit)
    return np.asarray([found[k] for k in ks])


def _credits(voted: np.ndarray, right: np.ndarray, classes: int) -> np.ndarray:
    """[J]: the share of each class's answers that are right."""
    sizes = np.bincount(voted, minlength=classes + 1)[:classes]
    return np.bincount(voted, weights=right, minlength=classes + 1)[:classes] / np.maximum(sizes, 1)


def _won(counts: np.ndarray, credit: np.ndarray) -> float:
    """The mean over votes [D, J + 1] of what their winners are worth."""
    votes = counts[:, :-1]
    if votes.shape[1] == 0:
        return 0.0
    top = votes.max(axis=1, keepdims=True)
    winners = (votes == top) & (top > 0)
    return float(((winners * credit).sum(axis=1) / np.maximum(winners.sum(axis=1), 1)).mean())
