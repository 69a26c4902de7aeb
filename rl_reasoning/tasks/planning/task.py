"""The task: write a path from one node of a hidden graph to another, node by node.

A prompt reads `3 17`, an answer `3 8 11 17`. The graph is never shown: a policy knows it from paths of other pairs.
"""

import dataclasses
import functools
import itertools
import random
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from rl_reasoning.tasks import choose, is_held_out
from rl_reasoning.tasks.planning import graphs
from rl_reasoning.tasks.planning.graphs import Pair, Path
from rl_reasoning.tokenizers.symbols import SymbolTokenizer
from rl_reasoning.types import Outcome, Problem, Verdict

Walk = Callable[[np.ndarray, Sequence[Pair], int, random.Random], Iterable[Path]]


@dataclasses.dataclass(frozen=True, eq=False)
class PathFinding:
    """Path finding in one graph.

    A pair of nodes is held out by a hash of its names and the seed; pairs that are an edge are always trained on,
    so that no edge of the graph stays unseen. A problem's metadata holds its `degree` (see `graphs.degrees`) under
    the training paths, and its `distance`, the edges of a shortest path.

    Attributes:
      name: of the task.
      nodes: N names, words without spaces.
      adjacency: [N, N] bool.
      walk: draws the training paths, as `graphs.walks_onward` does.
      walks: random training paths of each pair; a pair that is an edge also gives the path of that edge alone.
      held_out: share of the other pairs that no training sees.
      seed: of the split and the paths.
    """

    name: str
    nodes: tuple[str, ...]
    adjacency: np.ndarray
    walk: Walk
    walks: int
    held_out: float
    seed: int
    in_process = True

    def tokenizer(self) -> SymbolTokenizer:
        """One token a node."""
        return SymbolTokenizer(self.nodes)

    @property
    def longest_answer(self) -> int:
        """Tokens of the longest training path with its end of sequence."""
        return max(len(path) for path in self.training_paths) + 1

    @functools.cached_property
    def pairs(self) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
        """(train, held out): every (source, target) of different nodes with a path between them, on one side each."""
        sides: tuple[list[Pair], list[Pair]] = ([], [])
        for source, target in np.argwhere(self.distances > 0).tolist():
            out = not self.adjacency[source, target] and is_held_out(self._identity(source, target), self.held_out)
            sides[out].append((source, target))
        return tuple(sides[0]), tuple(sides[1])

    @functools.cached_property
    def distances(self) -> np.ndarray:
        """[N, N] int, see `graphs.distances`."""
        return graphs.distances(self.adjacency)

    @functools.cached_property
    def training_paths(self) -> tuple[Path, ...]:
        """The fixed set of paths that a warm start sees: single edges, then the walks."""
        rng = random.Random(f"{self.name} {self.seed} paths")
        edges = [pair for pair in self.pairs[0] if self.adjacency[pair]]
        return (*edges, *self.walk(self.adjacency, self.pairs[0], self.walks, rng))

    @functools.cached_property
    def observed(self) -> tuple[np.ndarray, np.ndarray]:
        """A_obs and R_obs of the training paths, each [N, N] bool; see `graphs`."""
        count = len(self.nodes)
        return (graphs.observed_edges(self.training_paths, count),
                graphs.observed_reachability(self.training_paths, count))

    @functools.cached_property
    def _degrees(self) -> np.ndarray:
        return graphs.degrees(*self.observed)

    def problem(self, source: int, target: int) -> Problem:
        """The problem of a pair of nodes, given by number."""
        names = self.nodes[source], self.nodes[target]
        return Problem(self._identity(source, target), " ".join(names), names, self.name,
                       {"degree": int(self._degrees[source, target]), "distance": int(self.distances[source, target])})

    def _identity(self, source: int, target: int) -> str:
        return f"{self.name} {self.seed}: {self.nodes[source]} > {self.nodes[target]}"

    def train_problems(self) -> Sequence[Problem]:
        """Every pair of the training side."""
        return tuple(self.problem(*pair) for pair in self.pairs[0])

    def held_out_problems(self, count: int, seed: int) -> tuple[Problem, ...]:
        """Pairs of which neither warm start nor RL ever sees a path. Raises ValueError when there are too few."""
        return choose([self.problem(*pair) for pair in self.pairs[1]], count, seed, self.name)

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.nodes)}

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Right when the path starts at the source, ends at the target, and every step is an edge."""
        words = text.split()
        strange = next((word for word in words if word not in self._numbers), "")
        if not words or strange:
            return Verdict(Outcome.UNPARSABLE, 0.0, None,
                           "an empty answer" if not words else f"{strange[:40]!r} is no node")
        fault = self._fault(words, *problem.answer)
        answer = " ".join(words)
        if fault:
            return Verdict(Outcome.WRONG, 0.0, answer, fault)
        return Verdict(Outcome.RIGHT, 1.0, answer, f"a path of {len(words) - 1} steps")

    def _fault(self, words: list[str], source: str, target: str) -> str | None:
        """What is wrong with a sequence of nodes, or None."""
        if words[0] != source:
            return f"starts at {words[0]} and not at {source}"
        for here, there in itertools.pairwise(words):
            if not self.adjacency[self._numbers[here], self._numbers[there]]:
                return f"there is no step from {here} to {there}"
        return None if words[-1] == target else f"ends at {words[-1]} and not at {target}"

    @functools.cached_property
    def _targets(self) -> dict[int, list[int]]:
        """The targets that each source is trained with."""
        return {source: [target for _, target in pairs]
                for source, pairs in itertools.groupby(self.pairs[0], key=lambda pair: pair[0])}

    def traces(self, rng: random.Random, count: int, wrong: float) -> list[tuple[str, str]]:
        """Random (prompt, answer) pairs for a warm start, drawn from the training paths with repetition.

        With probability `wrong` the prompt names another target that its source is trained with.
        """
        pairs = []
        for path in rng.choices(self.training_paths, k=count):
            target = path[-1]
            if rng.random() < wrong:
                target = rng.choice(self._targets[path[0]])
            pairs.append((f"{self.nodes[path[0]]} {self.nodes[target]}", " ".join(self.nodes[node] for node in path)))
        return pairs
