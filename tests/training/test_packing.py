"""Packing loses nothing and repeats nothing but prompts."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_reasoning.parallel import Shards
from rl_reasoning.training.packing import pack, pack_alike, rounded, rows_of
from tests.training.groups import answers


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


def filled(data, row_length):
    """The rows, of which none is too full, with every answer in one of them."""
    rows = rows_of(data, row_length)
    assert sorted(i for row in rows for part in row for i in part.answers) == list(range(len(data.lengths)))
    for row in rows:
        for part in row:
            assert set(data.groups[part.answers]) == {part.prompt}
            assert part.length == data.prompt_lengths[part.prompt] + data.lengths[part.answers].sum()
        assert sum(part.length for part in row) <= row_length
    return rows


def of_lengths(prompts, lengths):
    """Groups with prompts and answers of the given lengths."""
    data = answers(np.random.default_rng(0), [len(group) for group in lengths], longest=max(map(max, lengths)))
    return dataclasses.replace(data, prompt_lengths=np.asarray(prompts), lengths=np.concatenate(lengths).astype(int))


@settings(max_examples=200, deadline=None)
@given(sizes=st.lists(st.integers(0, 6), min_size=1, max_size=8), seed=st.integers(0, 99), room=st.integers(9, 60))
def test_every_answer_is_in_a_row_behind_its_prompt(sizes, seed, room):
    rows = filled(answers(np.random.default_rng(seed), sizes), room)
    if all(size <= 1 for size in sizes):
        assert all(len(part.answers) == 1 for row in rows for part in row)


def test_a_group_that_does_not_fit_is_cut_with_its_prompt_repeated():
    [*rows] = filled(of_lengths([4], [[5, 5, 5, 5, 5, 5]]), 14)
    assert [[part.answers for part in row] for row in rows] == [[[0, 1]], [[2, 3]], [[4, 5]]]


def test_groups_are_first_fit_longest_first_and_whole():
    rows = filled(of_lengths([1, 1, 1, 1, 1], [[2], [2, 1], [1], [3, 2], [4]]), 10)
    assert [[part.prompt for part in row] for row in rows] == [[3, 1], [4, 0, 2]]


def test_groups_are_cut_where_that_saves_a_row():
    """Three groups of 6 tokens never share rows of 10 whole; cut, two rows hold them."""
    rows = filled(of_lengths([1, 1, 1], [[1] * 5] * 3), 10)
    assert len(rows) == 2
    assert sorted(part.length for row in rows for part in row) == [3, 4, 6, 6]


def test_an_answer_longer_than_a_row_is_refused_by_name():
    with pytest.raises(ValueError, match=r"of 3 and an answer of 4 .* fit in a row of 6: raise rl\.row_length"):
        rows_of(of_lengths([3], [[2, 4]]), 6)


def test_sizes_are_few_and_at_most_a_fifth_of_one_is_empty():
    assert sorted({rounded(n) for n in range(1, 41)}) == [*range(1, 9), 10, 12, 14, 16, 20, 24, 28, 32, 40]
    assert all(n <= rounded(n) <= 1.25 * n for n in range(1, 5_000))


def test_parts_get_the_shape_of_the_largest_and_a_shape_can_be_given():
    data = of_lengths([3] * 4, [[1, 1], [2, 1], [9, 8], [7, 9]])
    one, other = pack_alike([data.take_groups(np.array(part)) for part in ([0, 1], [2, 3])], 12, 4, shards=Shards(2))
    assert [x.shape for x in one] == [x.shape for x in other]
    assert one.tokens.shape == (4, 12)  # two rows of each of two shards
    assert one.listed.shape == (2, 18)  # of 2 x 9 tokens of a shard
    np.testing.assert_array_equal(one.listed[:, :4], [[0, 1, 9, 0], [0, 9, 0, 0]])  # the longer group goes first
    batch = pack(data, 12, 8, rows=6)
    assert (batch.tokens.shape, batch.listed.shape) == ((6, 12), (1, 72))
    with pytest.raises(ValueError, match="3 rows of 12 tokens do not hold what needs 5"):
        pack(data, 12, 8, rows=3)
