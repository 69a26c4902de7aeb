"""Readings of a graph from logits: exact where the logits are a sum, and what theory says of a trained sum."""

import itertools

import jax
import numpy as np
import pytest

from rl_reasoning import config
from rl_reasoning.analysis.graph_readings import next_node_logits, read, separation
from rl_reasoning.models.decoder import DecoderConfig, hidden_states, initialize, logits
from rl_reasoning.tasks.planning import graphs, worlds

NODES = 6
PAIRS = np.asarray([pair for pair in itertools.product(range(NODES), repeat=2) if sum(pair) % 5 and pair[0] != 5])


def sum_of_parts(seed):
    """Logits of the pairs as a sum of random parts, with a shift of each row that a softmax does not see."""
    rng = np.random.default_rng(seed)
    current, target = rng.normal(size=(2, NODES, NODES))
    mean, shift = rng.normal(size=NODES), rng.normal(size=(len(PAIRS), 1))
    return current, target, mean + current[PAIRS[:, 0]] + target[PAIRS[:, 1]] + shift


def test_the_parts_of_a_sum_are_found_exactly():
    current, target, values = sum_of_parts(0)
    found = read(values, PAIRS)
    assert found.explained == pytest.approx(1.0)
    for part, true, seen in ((found.adjacency, current, PAIRS[:, 0]), (found.reachability, target, PAIRS[:, 1])):
        rows = np.unique(seen)
        relative = true[rows] - true[rows].mean(axis=1, keepdims=True)
        np.testing.assert_allclose(part[rows], relative - relative.mean(axis=0), atol=1e-9)
    assert np.isnan(found.adjacency[5]).all()  # no pair starts there


def test_what_is_no_sum_is_not_explained():
    _, _, values = sum_of_parts(0)
    noise = np.random.default_rng(1).normal(size=values.shape) * 10
    assert read(values + noise, PAIRS).explained < 0.7


def test_separation_counts_pairs():
    rng = np.random.default_rng(0)
    values, kind = rng.integers(0, 6, (5, 5)).astype(float), rng.integers(0, 3, (5, 5))
    values[0, 0] = np.nan
    found = separation(values, kind == 0, kind == 1)
    high, low = (values[(kind == each) & np.isfinite(values)] for each in (0, 1))
    wins = [(a > b) + (a == b) / 2 for a in high for b in low]
    assert found == pytest.approx((high.mean(), low.mean(), np.mean(wins)))
    assert np.isnan(separation(values, kind == 7, kind == 1)).all()


def test_logits_are_those_of_the_policy_after_target_and_current_node():
    decoder = DecoderConfig(NODES + 1, layers=2, width=8, heads=2, kv_heads=1, head_dim=4, mlp=8)
    parameters = initialize(decoder, jax.random.key(0))
    found = next_node_logits(decoder, parameters, PAIRS, NODES)
    for current, target in ((0, 1), (3, 4)):
        tokens = np.asarray([[current, target, current, 5]])  # what comes after is not seen
        mask = np.tril(np.ones((1, 4, 4), bool))
        hidden = hidden_states(decoder, parameters, tokens, np.arange(4)[None], mask)
        row = int(np.flatnonzero(((current, target) == PAIRS).all(axis=1))[0])
        np.testing.assert_allclose(found[row], logits(decoder, parameters, hidden[0, 2])[:NODES], atol=1e-5)


def test_a_trained_sum_holds_what_was_observed_and_nothing_more():
    """The paper's theorem: cross-entropy drives W^M to A_obs and W^V to R_obs, with its gradients written out."""
    task = worlds.path(config.Path(nodes=24, edge_probability=0.2, walks=10, held_out=0.6))
    steps = np.zeros((24, 24, 24))  # N_ijk: current node, target, next node
    for path in task.training_paths:
        for here, there in itertools.pairwise(path):
            steps[here, path[-1], there] += 1
    current, target = np.zeros((2, 24, 24))
    for _ in range(600):
        values = current[:, None] + target[None]
        chances = np.exp(values - values.max(axis=2, keepdims=True))
        wanted = steps.sum(axis=2, keepdims=True) * chances / chances.sum(axis=2, keepdims=True) - steps
        current -= 0.02 * wanted.sum(axis=1)
        target -= 0.02 * wanted.sum(axis=0)
    edges, shown = task.observed
    assert current[~edges].max() <= 0  # what was never seen only falls
    assert target[~shown].max() <= 0
    pairs = np.argwhere(task.distances > 0)
    found = read(current[pairs[:, 0]] + target[pairs[:, 1]], pairs)
    reach, other = graphs.reachable(task.adjacency), ~np.eye(24, dtype=bool)
    assert separation(found.adjacency, edges, reach.T & ~edges & other).auc > 0.99
    hidden = reach & ~shown & other
    assert separation(found.reachability, shown, hidden).auc > 0.85
    assert separation(found.reachability, hidden, ~reach).auc < 0.75
