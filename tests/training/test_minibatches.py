"""Mini-batches hold whole groups, and all of them."""

import numpy as np
import pytest

from rl_reasoning.training.minibatches import apart, minibatches, uneven_minibatches
from tests.training.groups import answers


def test_minibatches_hold_whole_groups_and_all_of_them():
    data = answers(np.random.default_rng(4), [3] * 8)
    parts = minibatches(data, count=2, microbatches=2, row_length=30, order=np.random.default_rng(5).permutation(8))
    assert [part.ids.shape for part in parts] == [(2, 6, 5)] * 2
    seen = sorted(part.ids[m, i, 0] for part in parts for m in range(2) for i in range(6))
    assert seen == sorted(data.ids[:, 0])
    for part in parts:
        for m in range(2):
            assert np.bincount(part.groups[m]).tolist() == [3, 3]


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="8 groups do not divide into 3 mini-batches of 1"):
        minibatches(answers(np.random.default_rng(6), [1] * 8), 3, 1, 30, order=None)


SIZES = [9, 1, 1, 4, 2, 2, 3, 1, 1]


@pytest.mark.parametrize("ordered", [True, False])
def test_groups_of_any_sizes_are_whole_in_parts_of_about_as_many_answers(ordered):
    data = answers(np.random.default_rng(4), SIZES)
    order = None if ordered else np.random.default_rng(5).permutation(9)
    parts = uneven_minibatches(data, count=2, microbatches=2, row_length=30, order=order)
    assert {part.ids.shape for part in parts} == {(2, 10, 5)}
    flat = [part.ids[m, i, 0] for part in parts for m in range(2) for i in range(part.ids.shape[1])
            if part.lengths[m, i]]
    assert sorted(flat) == sorted(data.ids[:, 0])
    homes = [(p, m, data.groups[i]) for p, part in enumerate(parts) for m in range(2)
             for i in np.flatnonzero(np.isin(data.ids[:, 0], part.ids[m, part.lengths[m] > 0, 0]))]
    assert len(set(homes)) == len(SIZES)
    if ordered:
        assert flat == list(data.ids[:, 0])
    else:
        assert [int((part.lengths > 0).sum(axis=1)[m]) for part in parts for m in range(2)] == [9, 5, 5, 5]


def test_more_parts_than_groups_leave_parts_empty():
    parts = uneven_minibatches(answers(np.random.default_rng(6), [3]), 2, 1, 30, order=np.arange(1))
    assert [int((part.lengths > 0).sum()) for part in parts] == [3, 0]
    assert parts[1].tokens.shape[1] == 1


def test_apart_puts_every_answer_behind_a_prompt_of_its_own():
    data = answers(np.random.default_rng(7), [2, 1])
    batch = apart(data, np.arange(3))
    assert batch.ids.shape == (3, 1, 5)
    for i, group in enumerate(data.groups):
        before, length = data.prompt_lengths[group], data.lengths[i]
        expected = np.concatenate([data.prompt_ids[group, :before], data.ids[i, :length]])
        np.testing.assert_array_equal(batch.tokens[i, 0, :before + length], expected)
