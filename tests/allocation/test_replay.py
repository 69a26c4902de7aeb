"""The memory of earlier answers: what is kept, for how long, and what comes back."""

import json

import numpy as np
import pytest

from rl_reasoning.allocation import History, Replay
from rl_reasoning.allocation.replay import Group


def group(problem, rewards, step=1):
    n = len(rewards)
    rng = np.random.default_rng(n)
    return Group(problem, step, np.arange(3, dtype=np.int32), rng.integers(0, 9, (n, 4)).astype(np.int32),
                 np.full(n, 4, np.int32), rng.normal(size=(n, 4)).astype(np.float32), np.asarray(rewards, np.float32),
                 np.zeros(n, bool))


def recall(memory, options, step, unsolved=()):
    return memory.recall(unsolved, options, step, np.random.default_rng(step))


def test_groups_whose_rewards_differ_stay_for_some_steps():
    options = Replay(groups=2, steps=2)
    memory = History().remember([group("a", [0, 1]), group("b", [1, 1]), group("c", [])], np.ones(3), options, 1)
    assert [kept.problem for kept in memory.recent] == ["a"]
    memory = memory.remember([group(name, [1, 0, 0], 2) for name in "de"], np.ones(2), options, 2)
    assert {kept.problem for kept in recall(memory, options, 3).alone} < {"a", "d", "e"}
    assert len(recall(memory, options, 3).alone) == 2
    drawn = [tuple(kept.problem for kept in recall(memory, options, 3).alone) for _ in range(2)]
    assert drawn[0] == drawn[1]
    memory = memory.remember([], np.ones(0), options, 3)
    assert [kept.problem for kept in memory.recent] == ["d", "e"]
    assert recall(memory, options, 9).alone == []
    assert History().remember([group("a", [0, 1])], np.ones(1), Replay(positives=1), 1).recent == ()


def test_right_answers_to_rarely_solved_problems_are_kept_until_they_are_solved():
    options = Replay(positives=2, rare=0.3)
    first = [group("a", [0, 1, 1, 1]), group("b", [0, 0, 0, 1]), group("c", [0, 0, 0, 0])]
    memory = History().remember(first, np.array([0.75, 0.25, 0]), options, 1)
    assert set(memory.positives) == {"b"}
    memory = memory.remember([group("b", [0, 0], 2), group("c", [1, 1, 1], 2)], np.array([0.2, 0.29]), options, 2)
    assert memory.positives["b"].step == 1  # nothing newer to keep
    assert len(memory.positives["c"].rewards) == 2
    back = recall(memory, options, 50, unsolved=["c", "x", "b", "c"])
    assert [kept.problem for kept in back.joining] == ["c", "b"]
    np.testing.assert_array_equal(back.joining[1].ids, first[1].ids[3:])
    assert back.alone == []
    memory = memory.remember([group("b", [1, 1], 3)], np.array([0.5]), options, 3)
    assert set(memory.positives) == {"c"}


def test_the_state_survives_a_file_exactly():
    options = Replay(groups=4, positives=1)
    memory = History().remember([group("a\n", [0, 1]), group("b", [0, 0, 1 / 3])], np.array([0.1, 0.1]), options, 1)
    again = History.from_state(json.loads(json.dumps(memory.get_state())))
    assert len(again.recent) == 2
    for one, other in zip([*memory.recent, *memory.positives.values()], [*again.recent, *again.positives.values()],
                          strict=True):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)
            assert np.asarray(left).dtype == np.asarray(right).dtype


@pytest.mark.parametrize(("change", "message"), [
    ({"groups": -1}, "replay_groups is -1"), ({"steps": 0}, "replay_steps is 0"),
    ({"rare": 0.0}, r"replay_rare is 0\.0"),
    ({"high": 0.5}, r"replay_high is 0\.5"), ({"level": "word"}, "replay_level is 'word'; allowed: token, sequence")])
def test_options_that_cannot_be(change, message):
    with pytest.raises(ValueError, match=message):
        Replay(**change)
