"""Packing loses nothing and repeats nothing but prompts."""

import numpy as np
import pytest

from rl_reasoning.training.batch import (
    Answers,
    apart,
    first_fit_decreasing,
    minibatches,
    pack,
    segment,
    uneven_minibatches,
)


def answers(rng, sizes, longest=5, prompt=4):
    """Groups of the given sizes with random ids and lengths; every token id names its answer and place."""
    groups = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    count = len(groups)
    return Answers(
        prompt_ids=rng.integers(0, 9, (len(sizes), prompt)).astype(np.int32),
        prompt_lengths=rng.integers(1, prompt + 1, len(sizes)), groups=groups,
        ids=(100 * (1 + np.arange(count))[:, None] + np.arange(longest)).astype(np.int32),
        lengths=rng.integers(1, longest + 1, count).astype(np.int32),
        extras={name: np.zeros((count, longest), np.float32)
                for name in ("old_logprobs", "advantages", "weights", "scale", "ref_logprobs", "values", "returns")}
        | {"rewards": np.ones(count, np.float32)})


@pytest.mark.parametrize("row_length", [9, 13, 40, 200])
def test_every_token_is_there_once_and_its_source_precedes_it(row_length):
    """T23-class fault of packers: no sample lost. Also: the predictor of a token is the token before it."""
    rng = np.random.default_rng(0)
    data = answers(rng, [3, 1, 4, 2])
    batch = pack(data, row_length, sequences=12)
    answer_tokens = batch.tokens[batch.branches > 0]
    expected = np.concatenate([data.ids[i, :data.lengths[i]] for i in range(10)])
    assert sorted(answer_tokens) == sorted(expected)
    for i in range(10):
        row, length = batch.rows[i], data.lengths[i]
        prompt = data.prompt_ids[data.groups[i], :data.prompt_lengths[data.groups[i]]]
        start = batch.sources[i, 0]
        np.testing.assert_array_equal(batch.tokens[row, start - len(prompt) + 1:start + 1][-1:], prompt[-1:])
        assert batch.branches[row, start] == 0
        assert batch.positions[row, start] == len(prompt) - 1
        for t in range(1, length):
            assert batch.tokens[row, batch.sources[i, t]] == data.ids[i, t - 1]
            assert batch.segments[row, batch.sources[i, t]] == batch.segments[row, start]
    assert batch.lengths[10:].sum() == 0


def test_positions_restart_in_every_segment_and_continue_after_the_prompt():
    data = answers(np.random.default_rng(1), [2, 2])
    batch = pack(data, 40, sequences=4)
    assert len(batch.tokens) == 1
    for i in range(4):
        first = np.flatnonzero(batch.tokens[0] == data.ids[i, 0])[0]
        positions = batch.positions[0, first:first + data.lengths[i]]
        np.testing.assert_array_equal(positions, data.prompt_lengths[data.groups[i]] + np.arange(data.lengths[i]))


def test_a_group_that_does_not_fit_is_split_with_its_prompt_repeated():
    data = answers(np.random.default_rng(2), [6])
    parts = segment(data, row_length=9)
    assert len(parts) > 1
    assert sorted(a for part in parts for a in part.answers) == list(range(6))
    assert all(part.length <= 9 for part in parts)


def test_an_answer_longer_than_a_row_is_refused_by_name():
    with pytest.raises(ValueError, match=r"do not fit in a row of 4: raise rl\.row_length"):
        segment(answers(np.random.default_rng(3), [2], longest=9, prompt=4), row_length=4)


def test_first_fit_decreasing_fills_rows():
    assert first_fit_decreasing([3, 4, 2, 6, 5], room=10) == [[3, 1], [4, 0, 2]]
    assert first_fit_decreasing([10, 10], room=10) == [[0], [1]]
    assert first_fit_decreasing([], room=10) == []


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
