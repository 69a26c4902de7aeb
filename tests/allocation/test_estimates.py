"""What earlier answers say of a problem, and how many new ones it takes."""

import itertools
import json

import numpy as np
import pytest

from rl_reasoning.allocation.estimates import Estimates, Found, Record


def found(drawn, accepted, norm=None, measured=None):
    zeros = np.zeros(len(drawn))
    return Found(np.array(drawn), np.array(accepted), zeros if norm is None else np.array(norm),
                 zeros if measured is None else np.array(measured))


def test_rates_and_norms_of_several_rounds():
    once = Estimates().add(["a", "b"], found([8, 8], [2, 0], [3.0, 0], [2, 0]), 1, memory=0.5)
    np.testing.assert_allclose(once.rates(["b", "a", "c"]), [0, 0.25, np.nan])
    np.testing.assert_allclose(once.norms(["a", "b", "c"]), [1.5, 1.5, 1.5])
    twice = once.add(["a"], found([4], [4], [8.0], [1]), 3, memory=0.5)
    assert twice.records["a"][:4] == (6, 4.5, 8.75, 1.5)  # two steps: what was there counts a quarter
    assert once.records["a"].drawn == 8  # a value
    assert Estimates().norms(["a", "b"]).tolist() == [1, 1]


def test_later_rounds_need_fewer_draws():
    known = Estimates().add(["a"], found([8], [1]), 1, memory=0.9, estimated=True)
    options = {"draws": 8, "every": 3, "memory": 0.9}
    missing = [int(known.missing(["a"], step, **options)[0]) for step in range(1, 12)]
    assert missing[:3] == [0, 0, 0]  # it serves for three steps
    assert missing[3:6] == [3, 3, 4]  # 8 * (1 - 0.9 ** 3) = 2.2 are missing, then 2.8 and 3.3
    assert all(a <= b for a, b in itertools.pairwise(missing))
    more = known.add(["a"], found([20], [2]), 3, memory=0.9)  # answers of the second stage count
    assert more.missing(["a", "b"], 4, **options).tolist() == [0, 8]
    assert more.records["a"].estimated == 1
    assert known.missing(["a"], 40, **(options | {"memory": 1.0})).tolist() == [0]


def test_outside_a_band():
    known = Estimates().add(["a", "b", "c", "d"], found([8, 8, 8, 0], [0, 4, 8, 0]), 1, memory=1.0)
    band = {"low": 0.1, "high": 0.9, "steps": 5}
    assert known.outside(["a", "b", "c", "d", "e"], 6, **band).tolist() == [True, False, True, False, False]
    assert not known.outside(["a", "b", "c"], 7, **band).any()


def test_the_state_survives_a_file_exactly():
    known = Estimates().add(["a\n", "b"], found([8, 3], [1, 1], [0.1, 1 / 3], [1, 1]), 1, memory=0.9, estimated=True)
    known = known.add(["b"], found([1], [0]), 4, memory=0.9)
    assert Estimates.from_state(json.loads(json.dumps(known.get_state()))) == known
    assert known.records["b"].drawn == pytest.approx(3 * 0.9 ** 3 + 1)
    assert Record().estimated is None
