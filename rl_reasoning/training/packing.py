"""Answers in rows: prompts stored once, answers packed behind them.

A segment of a row is a prompt and some of its answers; an answer sees its prompt and itself. So a group of n answers
costs one prompt and not n. What losses see is unpacked again, one answer a row: `rows` and `sources` say where the
hidden state that predicts each token lies.

A program is compiled for each number of rows and of listed tokens, so both are rounded up to few sizes (`rounded`),
and the parts of a step have those of the largest.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from rl_reasoning.parallel import ONE_PART, Shards
from rl_reasoning.training.batch import PACKED, Answers, TrainBatch


class Segment(NamedTuple):
    """A prompt, and which answers follow it in the same row."""

    prompt: int
    answers: list[int]
    length: int


def rounded(count: int) -> int:
    """The next of 1, 2, ... 7, 8, 10, 12, 14, 16, 20, ...: four in every doubling, so at most a fifth is empty."""
    step = 1 << max(0, count.bit_length() - 3)
    return -(-count // step) * step


def rows_of(answers: Answers, room: int) -> list[list[Segment]]:
    """What each row of `room` tokens holds: groups whole where they fit, unless cutting them saves a row.

    Raises:
      ValueError: a single answer with its prompt is longer than a row.
    """
    needed = answers.prompt_lengths[answers.groups] + answers.lengths
    if (needed > room).any():
        worst = int(needed.argmax())
        raise ValueError(f"a prompt of {answers.prompt_lengths[answers.groups[worst]]} and an answer of "
                         f"{answers.lengths[worst]} tokens do not fit in a row of {room}: raise rl.row_length or lower "
                         "the most tokens")
    longest_first = np.argsort(-answers.lengths, kind="stable")
    groups = [_segment(answers, prompt, longest_first[answers.groups[longest_first] == prompt].tolist())
              for prompt in range(len(answers.prompt_lengths))]
    whole, cut = (_filled(answers, groups, room, cut=cut) for cut in (False, True))
    return whole if len(whole) <= len(cut) else cut


def _filled(answers: Answers, groups: list[Segment], room: int, *, cut: bool) -> list[list[Segment]]:
    """The longest group first, each into the first row with room left for all of it (first-fit decreasing).

    A group for which there is none begins a row; or, to be cut, it first fills up the rows with the most room left.
    """
    rows: list[list[Segment]] = []
    left: list[int] = []
    for group in sorted(groups, key=lambda group: -group.length):
        rest = group
        while rest.answers:
            place = next((r for r, free in enumerate(left) if free >= rest.length), len(rows))
            if place == len(rows) and left and cut:
                emptiest, shortest = int(np.argmax(left)), _segment(answers, rest.prompt, rest.answers[-1:])
                place = emptiest if left[emptiest] >= shortest.length else place
            if place == len(rows):
                rows.append([])
                left.append(room)
            taken, rest = _as_many_as_fit(answers, rest, left[place])
            rows[place].append(taken)
            left[place] -= taken.length
    return rows


def _as_many_as_fit(answers: Answers, group: Segment, room: int) -> tuple[Segment, Segment]:
    """Of answers, the longest first, those that fit in `room` behind their prompt, in their order; and the others."""
    taken: list[int] = []
    others: list[int] = []
    used = int(answers.prompt_lengths[group.prompt])
    for answer in group.answers:
        length = int(answers.lengths[answer])
        fits = used + length <= room
        (taken if fits else others).append(answer)
        used += length if fits else 0
    return _segment(answers, group.prompt, sorted(taken)), _segment(answers, group.prompt, others)


def _segment(answers: Answers, prompt: int, members: list[int]) -> Segment:
    return Segment(prompt, members, int(answers.prompt_lengths[prompt] + answers.lengths[members].sum()))


def pack(answers: Answers, row_length: int, sequences: int, *, rows: int = 0, shards: Shards = ONE_PART) -> TrainBatch:
    """`pack_alike` of one part."""
    return pack_alike([answers], row_length, sequences, rows=rows, shards=shards)[0]


def pack_alike(parts: list[Answers], row_length: int, sequences: int, *, rows: int = 0,
               shards: Shards = ONE_PART) -> list[TrainBatch]:
    """Packs every answer of every part, none lost, into rows of one length; all parts get one shape.

    With shards, the first Nth of the answers lies in the first Nth of the rows, and so on: a device that has a part of
    the rows has all of their answers; devices that have parts of the same rows share their answers out. Answers then
    change places (`TrainBatch.places`).

    Args:
      row_length: tokens L of a row; made a multiple of `shards.context`.
      sequences: N of the results; beyond the answers there are there come padding ones of length 0.
      rows: R of the results where one shape is wanted whatever the lengths, and all N answers of T tokens are listed;
        0 is as many as are needed, rounded up.
      shards: into how many parts of about equal work rows and answers are split; R and N are multiples of them.

    Raises:
      ValueError: an answer does not fit in a row, or all do not in the rows.
    """
    parts = [numbered(part) for part in parts]
    row_length += -row_length % shards.context
    shares = [[part.take(some) for some in spread(part, shards.rows)] if shards.rows > 1 else [part] for part in parts]
    room = max(-(-sequences // shards.answers), *(-(-len(share.lengths) // shards.context)
                                                  for part in shares for share in part))
    packed = [[_pack_share(share, row_length, _seats(share, shards.context, room)) for share in part]
              for part in shares]
    needed = max(len(share.tokens) for part in packed for share in part)
    if rows and needed * shards.rows > rows:
        raise ValueError(f"{rows} rows of {row_length} tokens do not hold what needs {needed * shards.rows}")
    height, tokens = rows // shards.rows or rounded(needed), room * parts[0].ids.shape[1]
    listed = tokens if rows else min(tokens, rounded(max(part.listed.shape[1] for each in packed for part in each)))
    return [_joined(part, height, listed) for part in packed]


def spread(answers: Answers, shards: int) -> list[np.ndarray]:
    """Which answers each shard gets: about as many tokens each, the longest first, each to the shard with the least.

    Groups stay whole, so that their prompt is stored once, where as many groups go to each shard.
    """
    groups = len(answers.prompt_lengths)
    whole = groups % shards == 0
    units = [np.flatnonzero(answers.groups == group) for group in range(groups)] if whole else [
        np.array([answer]) for answer in range(len(answers.lengths))]
    costs = [int(answers.lengths[unit].sum() + answers.prompt_lengths[answers.groups[unit[:1]]].sum())
             for unit in units]
    return [np.concatenate([units[number] for number in part]) if part else np.zeros(0, np.int64)
            for part in _evenly(costs, shards)]


def _evenly(costs: list[int], shards: int) -> list[list[int]]:
    """Numbers by shard, as many to each: the dearest first, each to the shard with the least."""
    room, loads = -(-len(costs) // shards), [0] * shards
    chosen: list[list[int]] = [[] for _ in range(shards)]
    for number in sorted(range(len(costs)), key=lambda number: -costs[number]):
        shard = min((s for s in range(shards) if len(chosen[s]) < room), key=loads.__getitem__)
        chosen[shard].append(number)
        loads[shard] += costs[number]
    return [sorted(part) for part in chosen]


def _seats(answers: Answers, context: int, room: int) -> np.ndarray:
    """[context, room] int: which answer of a share each place holds, about as many tokens in each line; -1 is none."""
    seats = np.full((context, room), -1)
    for line, part in zip(seats, _evenly(answers.lengths.tolist(), context), strict=True):
        line[:len(part)] = part
    return seats


def stack(parts: list[TrainBatch]) -> TrainBatch:
    """Micro-batches of one shape on a leading axis."""
    return TrainBatch(*(np.stack(arrays) for arrays in zip(*parts, strict=True)))


def numbered(answers: Answers) -> Answers:
    """The answers with the places that they have now, unless they are part of more and have their places there."""
    places = np.arange(len(answers.lengths), dtype=np.int32)
    return dataclasses.replace(answers, extras={"places": places} | answers.extras)


def _pack_share(answers: Answers, row_length: int, seats: np.ndarray) -> TrainBatch:
    """One shard's rows, as many as are needed, its answers where their seats are, and the lists of their tokens."""
    layout = rows_of(answers, row_length)
    packed = {name: np.zeros((max(len(layout), 1), row_length), np.int32) for name in PACKED}
    rows, sources = np.zeros(len(answers.ids), np.int32), np.zeros(answers.ids.shape, np.int32)
    for row, members in enumerate(layout):
        column = 0
        for number, member in enumerate(members, start=1):
            column = _write_segment(answers, member, packed, (row, column, number), rows, sources)
    arrays = {"rows": rows, "sources": sources, "ids": answers.ids, "lengths": answers.lengths,
              "groups": answers.groups} | answers.extras
    seated = {name: _seated(array, seats) for name, array in arrays.items() if name in TrainBatch._fields}
    real = np.arange(answers.ids.shape[1]) < seated["lengths"].reshape(*seats.shape, 1)
    lists = [np.flatnonzero(line).astype(np.int32) for line in real]
    longest = max(map(len, lists))
    return TrainBatch(**packed, listed=np.stack([_pad(line, longest - len(line)) for line in lists]), **seated)


def _seated(array: np.ndarray, seats: np.ndarray) -> np.ndarray:
    """An array of answers with each where its seat is, and zeros where no one sits."""
    found = np.zeros((seats.size, *array.shape[1:]), array.dtype)
    found[seats.ravel() >= 0] = array[seats[seats >= 0]]
    return found


def _write_segment(answers: Answers, part: Segment, packed: dict[str, np.ndarray], place: tuple[int, int, int],
                   rows: np.ndarray, sources: np.ndarray) -> int:
    """Writes a prompt and its answers from `place` (row, column, segment number); returns the next free column."""
    row, column, number = place
    prompt_length = int(answers.prompt_lengths[part.prompt])

    def write(ids: np.ndarray, first_position: int, branch: int) -> None:
        span = slice(column, column + len(ids))
        packed["tokens"][row, span] = ids
        packed["positions"][row, span] = np.arange(first_position, first_position + len(ids))
        packed["segments"][row, span] = number
        packed["branches"][row, span] = branch

    write(answers.prompt_ids[part.prompt, :prompt_length], 0, 0)
    column += prompt_length
    prompt_end = column - 1
    for branch, answer in enumerate(part.answers, start=1):
        length = int(answers.lengths[answer])
        write(answers.ids[answer, :length], prompt_length, branch)
        rows[answer] = row
        sources[answer, 0] = prompt_end
        sources[answer, 1:length] = np.arange(column, column + length - 1)
        column += length
    return column


def _joined(shares: list[TrainBatch], height: int, listed: int) -> TrainBatch:
    """The shards' shares as one, each with `height` rows and a list of `listed` tokens."""
    def level(number: int, share: TrainBatch) -> TrainBatch:
        packed = {name: _pad(getattr(share, name), height - len(share.tokens)) for name in PACKED}
        lists = np.pad(share.listed, ((0, 0), (0, listed - share.listed.shape[1])))
        return share._replace(rows=share.rows + number * height, listed=lists, **packed)

    parts = [level(*share) for share in enumerate(shares)]
    return TrainBatch(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _pad(array: np.ndarray, fill: int) -> np.ndarray:
    return np.pad(array, [(0, fill)] + [(0, 0)] * (array.ndim - 1))
