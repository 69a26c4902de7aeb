"""Directed graphs as boolean matrices, random paths in them, and what a set of paths shows of a graph.

After ALPINE (Wang et al. 2024, arXiv:2405.09220). Nodes are 0..N-1. `adjacency[i, k]` is the edge i -> k;
`reachability[t, k]` says that target t is reached from k, as in the paper's R.
"""

import functools
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

Pair = tuple[int, int]  # source, target
Path = tuple[int, ...]


def random_dag(nodes: int, probability: float, seed: int) -> np.ndarray:
    """[N, N] bool: each edge i -> k with i < k is there with this probability, independently."""
    rng = np.random.default_rng(seed)
    return np.triu(rng.random((nodes, nodes)) < probability, k=1)


def distances(adjacency: np.ndarray) -> np.ndarray:
    """[N, N] int: edges on a shortest path from i to k, 0 on the diagonal, -1 where there is no path."""
    return _steps_to(np.eye(len(adjacency), dtype=bool), adjacency)


def _steps_to(goals: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """[N, N] int: fewest edges from node i to a node k with goals[k, t], for each column t; -1 where there is none."""
    found, front, step = np.where(goals, 0, -1), goals, 0
    while front.any():
        step += 1
        front = (edges.astype(np.float32) @ front.astype(np.float32) > 0) & (found < 0)
        found[front] = step
    return found


def reachable(adjacency: np.ndarray) -> np.ndarray:
    """[N, N] bool: `reachability`, with every node reached from itself."""
    return (distances(adjacency) >= 0).T


def walks_onward(adjacency: np.ndarray, pairs: Sequence[Pair], count: int, rng: random.Random) -> Iterator[Path]:
    """`count` random paths of each pair in a graph without circles.

    The next node is drawn uniformly from the successors from which the target is still reached.
    """
    reach = reachable(adjacency)

    @functools.cache
    def onward(node: int, target: int) -> list[int]:
        return np.flatnonzero(adjacency[node] & reach[target]).tolist()

    for source, target in pairs:
        for _ in range(count):
            path = [source]
            while path[-1] != target:
                path.append(rng.choice(onward(path[-1], target)))
            yield tuple(path)


def walks_without_loops(adjacency: np.ndarray, pairs: Sequence[Pair], count: int,
                        rng: random.Random) -> Iterator[Path]:
    """`count` random paths of each pair in a connected graph whose edges go both ways.

    Each is a random walk to the target with its loops erased. Those of one target are branches of a random spanning
    tree (Wilson 1996, "Generating random spanning trees more quickly than the cover time").
    """
    successors = [np.flatnonzero(row).tolist() for row in adjacency]
    for target, together in itertools.groupby(sorted(pairs, key=lambda pair: pair[::-1]), key=lambda pair: pair[1]):
        sources = [source for source, _ in together]
        for _ in range(count):
            following = _spanning_tree(successors, target, rng)
            yield from (_branch(following, source, target) for source in sources)


def _spanning_tree(successors: Sequence[Sequence[int]], root: int, rng: random.Random) -> dict[int, int]:
    """The next node towards the root, for every other node."""
    following: dict[int, int] = {}
    inside = {root}
    for start in range(len(successors)):
        node = start
        while node not in inside:
            following[node] = rng.choice(successors[node])  # a later visit overwrites: this erases the loop
            node = following[node]
        inside.update(_branch(following, start, node))
    return following


def _branch(following: dict[int, int], source: int, target: int) -> Path:
    path = [source]
    while path[-1] != target:
        path.append(following[path[-1]])
    return tuple(path)


def observed_edges(paths: Iterable[Path], nodes: int) -> np.ndarray:
    """[N, N] bool: A_obs, the edges that lie on some path."""
    seen = np.zeros((nodes, nodes), bool)
    for node, following in {pair for path in paths for pair in itertools.pairwise(path)}:
        seen[node, following] = True
    return seen


def observed_reachability(paths: Iterable[Path], nodes: int) -> np.ndarray:
    """[N, N] bool: R_obs[t, k], node k comes after the source on some path to t; t itself does."""
    seen = np.zeros((nodes, nodes), bool)
    for target, node in {(path[-1], node) for path in paths for node in path[1:]}:
        seen[target, node] = True
    return seen


def degrees(edges: np.ndarray, reachability: np.ndarray) -> np.ndarray:
    """[N, N] int: how far what was observed of a pair (source, target) is from a plan for it.

    0 when the source itself was observed to reach the target; d when the nearest node that was lies d observed
    edges away; -1 when no such node can be reached. A policy that has learned A_obs and R_obs, and does not
    chain reachability, picks its first step rightly at degrees 0 and 1 and cannot from degree 2 on.
    """
    return _steps_to(reachability.T, edges)
