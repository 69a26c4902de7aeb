"""Planning: graphs, paths and degrees against brute force, and a verifier that knows every path."""

import collections
import itertools
import json
import random

import numpy as np
import pytest

from rl_reasoning import config
from rl_reasoning.tasks import Language
from rl_reasoning.tasks.planning import graphs, worlds
from rl_reasoning.tasks.planning.task import PathFinding
from rl_reasoning.types import Outcome

SMALL = config.Path(nodes=40, edge_probability=0.15, walks=5, held_out=0.5)


@pytest.fixture(name="task", scope="module")
def small_task():
    return worlds.path(SMALL)


@pytest.fixture(name="blocks", scope="module")
def four_blocks():
    return worlds.blocksworld(config.Blocksworld(walks=3))


def matrix(nodes, *edges):
    found = np.zeros((nodes, nodes), bool)
    for edge in edges:
        found[edge] = True
    return found


def every_path(adjacency, source, target):
    """All paths of a graph without circles."""
    if source == target:
        return [(source,)]
    return [(source, *rest) for following in np.flatnonzero(adjacency[source]).tolist()
            for rest in every_path(adjacency, following, target)]


def test_a_random_graph_has_no_circle_and_depends_on_its_seed_alone():
    one, again, other = (graphs.random_dag(50, 0.1, seed) for seed in (3, 3, 4))
    assert not np.tril(one).any()  # edges lead to later nodes only
    assert (one == again).all()
    assert (one != other).any()
    assert graphs.random_dag(300, 0.1, 0).sum() == pytest.approx(0.1 * 300 * 299 / 2, rel=0.06)


def test_distances_and_reachability_are_those_of_matrix_powers(task):
    count = len(task.nodes)
    shortest = np.where(np.eye(count, dtype=bool), 0, -1)
    power = np.eye(count, dtype=int)
    for length in range(1, count):
        power = ((power @ task.adjacency) > 0).astype(int)
        shortest[(shortest < 0) & (power > 0)] = length
    assert (graphs.distances(task.adjacency) == shortest).all()
    assert (graphs.reachable(task.adjacency) == (shortest >= 0).T).all()


def test_t48_every_pair_with_a_path_is_on_one_side_and_edges_are_trained_on(task):
    train, held_out = map(set, task.pairs)
    assert not train & held_out
    assert train | held_out == {(i, k) for i, k in itertools.permutations(range(40), 2)
                                if every_path(task.adjacency, i, k)}
    assert {tuple(edge) for edge in np.argwhere(task.adjacency).tolist()} <= train
    assert len(held_out) == pytest.approx(0.5 * (len(train | held_out) - task.adjacency.sum()), rel=0.15)
    ids = [problem.id for problem in (*task.train_problems(), *task.held_out_problems(len(held_out), 0))]
    assert len(set(ids)) == len(train | held_out)


def test_training_paths_lead_from_source_to_target_of_training_pairs(task, blocks):
    for each in (task, blocks):
        train = set(each.pairs[0])
        for path in each.training_paths:
            assert (path[0], path[-1]) in train
            assert all(each.adjacency[step] for step in itertools.pairwise(path))
            assert len(set(path)) == len(path)
        counts = collections.Counter((path[0], path[-1]) for path in each.training_paths)
        assert counts == {pair: each.walks + each.adjacency[pair] for pair in train}
        assert (each.observed[0] == each.adjacency).all()
        assert not (each.observed[1] & ~graphs.reachable(each.adjacency)).any()


def test_everything_repeats_with_its_seed(task):
    again, other = worlds.path(SMALL), worlds.path(config.Path(**{**vars(SMALL), "seed": 1}))
    assert again.training_paths == task.training_paths
    assert again.held_out_problems(20, 0) == task.held_out_problems(20, 0)
    assert other.training_paths != task.training_paths


def test_degrees_on_a_chain():
    """1 -> 2 -> 3 -> 4 -> 5, known from its edges and from the path 2 3 4."""
    chain = matrix(5, (0, 1), (1, 2), (2, 3), (3, 4))
    paths = [(0, 1), (1, 2), (2, 3), (3, 4), (1, 2, 3)]
    shown = graphs.observed_reachability(paths, 5)
    assert sorted(map(tuple, np.argwhere(shown).tolist())) == [(1, 1), (2, 2), (3, 2), (3, 3), (4, 4)]
    found = graphs.degrees(graphs.observed_edges(paths, 5), shown)
    assert found[0].tolist() == [-1, 1, 2, 2, 4]  # to 4: over 2 to 3, which was shown on the way to it
    assert found[:4, 4].tolist() == [4, 3, 2, 1]
    assert found[2, 3] == 0
    assert (graphs.observed_edges(paths, 5) == chain).all()


def test_degrees_are_those_of_all_paths(task):
    """The fewest steps to a node that some training path to the target passes after its source."""
    passed = collections.defaultdict(set)
    for path in task.training_paths:
        passed[path[-1]].update(path[1:])
    for problem in task.held_out_problems(40, 0):
        source, target = map(task.nodes.index, problem.answer)
        paths = every_path(task.adjacency, source, target)
        least = min(next(at for at, node in enumerate(path) if node in passed[target]) for path in paths)
        assert problem.metadata["degree"] == least
        assert problem.metadata["distance"] == min(map(len, paths)) - 1


def test_plans_from_what_was_observed_succeed_up_to_degree_1_and_never_beyond(task):
    """The paper's Algorithm 1, with the true matrices and with those that the training paths show."""
    def succeeds(edges, reach, source, target, rng):
        node = source
        while node != target:
            allowed = np.flatnonzero(edges[node] & reach[target])
            if not len(allowed):
                return False
            node = rng.choice(allowed)
        return True

    rng, held_out = np.random.default_rng(0), task.pairs[1]
    found = collections.Counter()
    for source, target in held_out:
        degree = task.problem(source, target).metadata["degree"]
        found[degree] += 1
        assert succeeds(task.adjacency, graphs.reachable(task.adjacency), source, target, rng)
        assert succeeds(*task.observed, source, target, rng) == (degree <= 1)
    assert min(found[0], found[1], found[2]) > 3


def test_the_verifier_takes_every_path_and_nothing_else():
    """All sequences of up to five of four nodes, for every pair."""
    tiny = matrix(4, (0, 1), (1, 2), (0, 2), (2, 3), (1, 3))
    task = PathFinding("path", ("a", "b", "c", "d"), tiny, graphs.walks_onward, 1, 0.5, 0)
    for source, target in np.argwhere(task.distances > 0).tolist():
        problem, right = task.problem(source, target), {
            " ".join(task.nodes[node] for node in path) for path in every_path(tiny, source, target)}
        for length in range(1, 6):
            for words in itertools.product(task.nodes, repeat=length):
                verdict = task.verify(problem, " ".join(words))
                assert (verdict.outcome is Outcome.RIGHT) == (" ".join(words) in right)
                assert verdict.reward == float(verdict.outcome is Outcome.RIGHT)


@pytest.mark.parametrize(("text", "outcome", "reason"), [
    ("", Outcome.UNPARSABLE, "empty"), ("1 x", Outcome.UNPARSABLE, "'x' is no node"),
    ("1 41", Outcome.UNPARSABLE, "'41'"), ("1 01", Outcome.UNPARSABLE, "'01'"), ("2", Outcome.WRONG, "starts at 2")])
def test_t35_what_is_no_path_says_why(task, text, outcome, reason):
    problem = next(p for p in task.train_problems() if p.answer[0] == "1")
    verdict = task.verify(problem, text)
    assert (verdict.outcome, verdict.reward) == (outcome, 0.0)
    assert reason in verdict.reason


def test_traces_answer_their_prompt_unless_they_are_meant_not_to(task):
    held_out = {problem.prompt for problem in task.held_out_problems(len(task.pairs[1]), 0)}
    problems = {problem.prompt: problem for problem in task.train_problems()}
    for wrong, low, high in ((0.0, 1.0, 1.0), (1.0, 0.02, 0.5)):
        traces = task.traces(random.Random(0), 500, wrong)
        assert not held_out & {prompt for prompt, _ in traces}
        right = [task.verify(problems[prompt], answer).outcome is Outcome.RIGHT for prompt, answer in traces]
        assert low <= np.mean(right) <= high
        assert all(answer.split()[0] == prompt.split()[0] for prompt, answer in traces)
    assert task.traces(random.Random(1), 5, 0.5) == task.traces(random.Random(1), 5, 0.5)


def test_the_language_has_a_token_for_each_node(task, blocks):
    for each in (task, blocks):
        assert isinstance(each, Language)
        tokenizer = each.tokenizer()
        assert tokenizer.vocabulary_size == len(each.nodes) + 1
        assert tokenizer.encode(each.nodes[-1]) == [len(each.nodes) - 1]
        answers = [answer for _, answer in each.traces(random.Random(0), 2000, 0.0)]
        assert max(len(tokenizer.encode(answer)) for answer in answers) < each.longest_answer
        json.dumps(each.train_problems()[0].metadata)


def test_a_graph_without_edges_is_refused():
    with pytest.raises(ValueError, match=r"edge_probability=0\.0"):
        worlds.path(config.Path(edge_probability=0.0))


@pytest.mark.parametrize(("blocks", "states"), [(1, 1), (2, 3), (3, 13), (4, 73), (5, 501)])
def test_states_of_blocks_are_all_there(blocks, states):
    """Every order of the blocks, cut into stacks in every way, without regard to the order of the stacks."""
    cut = {tuple(sorted("".join(order) for order in (
        "".join(f"{block}{' ' if here else ''}" for block, here in zip(order, (*cuts, False), strict=True)).split())))
        for order in itertools.permutations("abcde"[:blocks])
        for cuts in itertools.product((False, True), repeat=blocks - 1)}
    found = worlds.block_states(blocks)
    assert len(found) == len(set(found)) == states
    assert set(found) == cut


def test_moves_take_one_top_block_and_can_be_undone(blocks):
    assert (blocks.adjacency == blocks.adjacency.T).all()
    for state, row in zip(worlds.block_states(4), blocks.adjacency, strict=True):
        stacks = len(state)
        assert row.sum() == stacks * (stacks - 1) + sum(len(stack) > 1 for stack in state)
    assert worlds.moves(("ab", "c")) == {("a", "b", "c"), ("a", "cb"), ("abc",)}
    assert (blocks.distances >= 0).all()


def test_a_tower_is_never_on_the_way(blocks):
    """The 24 states with one stack have one neighbour, so a plan without a loop only starts or ends there."""
    assert [len(name) for name in blocks.nodes].count(4) == 24
    shown = blocks.observed[1][:, :24]
    assert (shown == np.eye(73, dtype=bool)[:, :24]).all()


def test_walks_without_loops_have_the_loop_erased_distribution():
    """From a to b in a triangle: straight with 2/3, since half of the walks through c come back to a."""
    triangle = ~np.eye(3, dtype=bool)
    paths = collections.Counter(graphs.walks_without_loops(triangle, [(0, 1)], 4000, random.Random(0)))
    assert set(paths) == {(0, 1), (0, 2, 1)}
    assert paths[0, 1] / 4000 == pytest.approx(2 / 3, abs=0.03)


def test_walks_onward_choose_each_next_node_alike_and_never_a_dead_end():
    adjacency = matrix(5, (0, 1), (0, 2), (0, 4), (1, 2), (1, 3), (2, 3))
    paths = collections.Counter(graphs.walks_onward(adjacency, [(0, 3)], 4000, random.Random(0)))
    shares = {path: count / 4000 for path, count in paths.items()}
    assert shares == pytest.approx({(0, 1, 3): 0.25, (0, 1, 2, 3): 0.25, (0, 2, 3): 0.5}, abs=0.03)
