"""The lengths of prompts before a run: a histogram, and what is too long is dropped, never cut."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from rl_reasoning.types import Problem

MOST_BINS = 12


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Lengths of prompts in tokens.

    Attributes:
      edges: powers of two; bin i counts lengths in (edges[i], edges[i + 1]].
      counts: one a bin.
      longest: of all prompts.
      dropped: ids of problems whose prompt was longer than `limit`, or had no tokens.
    """

    edges: tuple[int, ...]
    counts: tuple[int, ...]
    longest: int
    limit: int
    dropped: tuple[str, ...]

    def lines(self) -> list[str]:
        """What a person is told, one line a bin."""
        most = max(self.counts, default=0) or 1
        told = [f"prompt tokens: longest {self.longest}, {len(self.dropped)} dropped (longer than {self.limit})"]
        bins = zip(itertools.pairwise(self.edges), self.counts, strict=True)
        return told + [f"  {low + 1:>6,} to {high:>6,}  {count:>7,}  {'#' * round(40 * count / most)}"
                       for (low, high), count in bins]


def keep_short(problems: Sequence[Problem], length: Callable[[Problem], int],
               limit: int) -> tuple[tuple[Problem, ...], Lengths]:
    """The problems whose prompt has 1 to `limit` tokens, and the lengths of all."""
    sizes = np.asarray([length(problem) for problem in problems], np.int64)
    fits = (sizes >= 1) & (sizes <= limit)
    kept = tuple(itertools.compress(problems, fits))
    dropped = tuple(problem.id for problem in itertools.compress(problems, ~fits))
    longest = int(sizes.max(initial=0))
    last = max(1, int(np.ceil(np.log2(max(2, longest)))))
    first = max(0, last - MOST_BINS)
    edges = (0, *(2 ** power for power in range(first + 1, last + 1)))
    counts = np.histogram(sizes - 0.5, edges)[0] if len(sizes) else np.zeros(len(edges) - 1, int)
    return kept, Lengths(edges, tuple(counts.tolist()), longest, limit, dropped)
