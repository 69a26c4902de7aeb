"""Order, coverage, shares and state of a stream of problems."""

import collections
import itertools
import json

import pytest

from rl_reasoning.data import Stream, problem_batches
from rl_reasoning.types import Problem


def problems(count, source="a"):
    return [Problem(f"{source}{i}", f"{i}?", str(i), "math", {"source": source}) for i in range(count)]


def ids(batch):
    return [problem.id for problem in batch]


def served(count, size, seed, hosts, steps):
    """The problems of each step in the order of the whole batch, put together from all hosts."""
    streams = [Stream(problems(count), size, seed, host=host, hosts=hosts) for host in range(hosts)]
    for _ in range(steps):
        parts = [ids(next(stream)) for stream in streams]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        yield [i for row in itertools.zip_longest(*parts) for i in row if i is not None]


@pytest.mark.parametrize("hosts", [1, 2, 3])
@pytest.mark.parametrize(("count", "size"), [(10, 4), (5, 8)])
def test_t47_every_problem_once_an_epoch_on_any_number_of_hosts(hosts, count, size):
    epochs = 3
    steps = -(-epochs * count // size)
    stream = list(itertools.chain(*served(count, size, 0, hosts, steps)))[:epochs * count]
    orders = [tuple(stream[first:first + count]) for first in range(0, len(stream), count)]
    assert all(set(order) == set(ids(problems(count))) for order in orders)
    assert len(set(orders)) > 1  # each epoch has its own order


@pytest.mark.parametrize("hosts", [2, 3])
def test_t47_the_order_does_not_depend_on_the_hosts(hosts):
    assert list(served(11, 4, 3, hosts, 9)) == list(served(11, 4, 3, 1, 9))
    assert list(served(11, 4, 3, 1, 9)) != list(served(11, 4, 4, 1, 9))


def test_a_saved_state_goes_on_where_it_was_on_any_number_of_hosts():
    stream = Stream(problems(10), 4, 0)
    for _ in range(7):
        next(stream)
    state = json.loads(json.dumps(stream.get_state()))
    ahead = [ids(next(stream)) for _ in range(5)]
    resumed = [Stream(problems(10), 4, 0, host=host, hosts=2) for host in range(2)]
    for part in resumed:
        part.set_state(state)
    for wanted in ahead:
        parts = [ids(next(part)) for part in resumed]
        assert [parts[0][0], parts[1][0], parts[0][1], parts[1][1]] == wanted


@pytest.mark.parametrize("other", [
    {"count": 9}, {"size": 5}, {"seed": 1}, {"weights": {"a": 1.0}}])
def test_a_state_of_another_stream_is_refused(other):
    state = Stream(problems(10), 4, 0).get_state()
    settings = {"count": 10, "size": 4, "seed": 0, "weights": None} | other
    stream = Stream(problems(settings["count"]), settings["size"], settings["seed"], weights=settings["weights"])
    with pytest.raises(ValueError, match="is not this one"):
        stream.set_state(state)


def test_any_step_can_be_asked_for():
    stream, batches = Stream(problems(10), 4, 0), problem_batches(problems(10), 4, 0)
    assert ids(stream[50]) == ids(batches[50])
    assert ids(next(stream)) == ids(batches[0])


def test_weights_are_shares_and_each_source_has_its_epochs():
    few, many = problems(6, "few"), problems(40, "many")
    batches = problem_batches([*many, *few], 8, 0, weights={"many": 1, "few": 3})
    drawn = [problem.id for step in range(10) for problem in batches[step]]
    assert sum(name.startswith("few") for name in drawn) == 60
    assert set(collections.Counter(name for name in drawn if name.startswith("few")).values()) == {10}
    assert max(collections.Counter(name for name in drawn if name.startswith("many")).values()) == 1


@pytest.mark.parametrize(("given", "weights"), [(problems(3), {"b": 1.0}), ([*problems(3), *problems(2, "c")],
    {"a": 1.0})])
def test_weights_name_the_sources(given, weights):
    with pytest.raises(ValueError, match="weights are given for"):
        problem_batches(given, 2, 0, weights=weights)


def test_no_problems_and_no_such_host_are_errors():
    with pytest.raises(ValueError, match="no problem to train on"):
        problem_batches([], 2, 0)
    with pytest.raises(ValueError, match="host=2 must be from 0 to 1"):
        Stream(problems(3), 2, 0, host=2, hosts=2)
