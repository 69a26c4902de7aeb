"""From answers to the arrays of an update: prompts stored once, answers packed behind them, in rows.

A segment of a row is a prompt and some of its answers; an answer sees its prompt and itself. So a group of n
answers costs one prompt and not n. What losses see is unpacked again, one answer a row: `rows` and `sources`
say where the hidden state that predicts each token lies.
"""

import dataclasses
from typing import NamedTuple

import numpy as np


@dataclasses.dataclass(frozen=True)
class Answers:
    """N answers to P prompts, with what an update needs to know of each. Groups of any size, in any order.

    Attributes:
      prompt_ids: [P, Lp] int32, right-padded. prompt_lengths: [P].
      groups: [N] int32, which prompt each answers.
      ids: [N, T] int32. lengths: [N], at least 1.
      extras: name -> [N] or [N, T] arrays: those that the loss reads (see `TrainBatch`), and any others.
    """

    prompt_ids: np.ndarray
    prompt_lengths: np.ndarray
    groups: np.ndarray
    ids: np.ndarray
    lengths: np.ndarray
    extras: dict[str, np.ndarray]

    @property
    def mask(self) -> np.ndarray:
        """[N, T] bool: the answers' tokens."""
        return np.arange(self.ids.shape[1]) < self.lengths[:, None]

    def take_groups(self, chosen: np.ndarray) -> "Answers":
        """The answers to some prompts, whose groups are renumbered in the order chosen."""
        place = np.full(len(self.prompt_lengths), -1)
        place[chosen] = np.arange(len(chosen))
        picked = np.flatnonzero(place[self.groups] >= 0)
        groups = place[self.groups[picked]].astype(np.int32)
        return Answers(self.prompt_ids[chosen], self.prompt_lengths[chosen], groups, self.ids[picked],
                       self.lengths[picked], {name: array[picked] for name, array in self.extras.items()})


    def take(self, chosen: np.ndarray) -> "Answers":
        """Some of the answers, with all prompts; groups keep their numbers."""
        return dataclasses.replace(self, groups=self.groups[chosen], ids=self.ids[chosen],
                                   lengths=self.lengths[chosen],
                                   extras={name: array[chosen] for name, array in self.extras.items()})


class TrainBatch(NamedTuple):
    """What the jitted update reads. With micro-batches every array has a leading axis M.

    tokens, positions, segments, branches: [R, L] int32, the packed rows (see `models.decoder.branch_mask`).
    rows: [N] int32 and sources: [N, T] int32: the row and column whose hidden state predicts each token.
    ids: [N, T] int32, lengths: [N] int32 (0 for padding). groups: [N] int32.
    places: [N] int32, where an answer stood in what was packed (`unpacked`).
    old_logprobs: [N, T]; advantages: [N, T]; rewards: [N].
    weights: [N, T], how much a token counts in numerators and denominators, 0 for those that must not.
    scale: [N, T], multiplies the policy loss of a token alone: a correction of the sampler, else 1.
    ref_logprobs: [N, T], under the reference policy; zeros without one.
    values, returns: [N, T], the critic's old values and its targets; zeros without a critic.
    """

    tokens: np.ndarray
    positions: np.ndarray
    segments: np.ndarray
    branches: np.ndarray
    rows: np.ndarray
    sources: np.ndarray
    ids: np.ndarray
    lengths: np.ndarray
    groups: np.ndarray
    places: np.ndarray
    old_logprobs: np.ndarray
    advantages: np.ndarray
    weights: np.ndarray
    scale: np.ndarray
    rewards: np.ndarray
    ref_logprobs: np.ndarray
    values: np.ndarray
    returns: np.ndarray

    @property
    def padding(self) -> float:
        """Share of the rows' places that hold no token."""
        return float(np.mean(self.segments == 0))


_FLOATS = ("old_logprobs", "advantages", "weights", "scale", "ref_logprobs", "values", "returns")


def no_extras(answers: int, tokens: int) -> dict[str, np.ndarray]:
    """Zeros for all that a loss reads of N answers of T tokens; callers replace what they have."""
    return dict.fromkeys(_FLOATS, np.zeros((answers, tokens), np.float32)) | {"rewards": np.zeros(answers, np.float32)}


_PACKED = ("tokens", "positions", "segments", "branches")


class Segment(NamedTuple):
    """A prompt, and which answers follow it in the same row."""

    prompt: int
    answers: list[int]
    length: int


def segment(answers: Answers, row_length: int) -> list[Segment]:
    """Each group as one segment, or as several with the prompt repeated where it would not fit in a row.

    Raises:
      ValueError: a single answer with its prompt is longer than a row.
    """
    segments: list[Segment] = []
    for prompt, prompt_length in enumerate(answers.prompt_lengths):
        current: list[int] = []
        used = int(prompt_length)
        for answer in np.flatnonzero(answers.groups == prompt):
            length = int(answers.lengths[answer])
            if prompt_length + length > row_length:
                raise ValueError(f"a prompt of {prompt_length} and an answer of {length} tokens do not fit in a row "
                                 f"of {row_length}: raise rl.row_length or lower the most tokens")
            if used + length > row_length:
                segments.append(Segment(prompt, current, used))
                current, used = [], int(prompt_length)
            current.append(int(answer))
            used += length
        if current:
            segments.append(Segment(prompt, current, used))
    return segments


def first_fit_decreasing(lengths: list[int], room: int) -> list[list[int]]:
    """Which items share a row: longest first, each into the first row with room left."""
    rows: list[list[int]] = []
    left: list[int] = []
    for item in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        place = next((r for r, free in enumerate(left) if free >= lengths[item]), len(rows))
        if place == len(rows):
            rows.append([])
            left.append(room)
        rows[place].append(item)
        left[place] -= lengths[item]
    return rows


def pack(answers: Answers, row_length: int, sequences: int, row_multiple: int = 1, shards: int = 1) -> TrainBatch:
    """Packs every answer, none lost, into rows of one length.

    With shards, the first Nth of the answers lies in the first Nth of the rows, and so on: a device that has a part of
    the rows has all of their answers. Answers then change places (`TrainBatch.places`).

    Args:
      row_length: tokens L of a row.
      sequences: N of the result; beyond the answers there are there come padding ones of length 0.
      row_multiple: R is rounded up to a multiple, so that few shapes are compiled.
      shards: into how many parts of about equal work rows and answers are split; R and N are multiples of it.
    """
    answers = _numbered(answers)
    if shards == 1:
        return _pack_part(answers, row_length, sequences, row_multiple)
    parts = spread(answers, shards)
    room = max(-(-sequences // shards), *map(len, parts))
    packed = [_pack_part(answers.take(part), row_length, room, row_multiple) for part in parts]
    level = _level(packed)
    height = level[0].tokens.shape[0]
    moved = [part._replace(rows=part.rows + number * height) for number, part in enumerate(level)]
    return TrainBatch(*(np.concatenate(arrays) for arrays in zip(*moved, strict=True)))


def unpacked(batch: TrainBatch, values: np.ndarray) -> np.ndarray:
    """[answers, ...] in the order in which they were packed, from what was computed of a batch: [M, N, ...]."""
    real = batch.lengths > 0
    found = np.empty((real.sum(), *values.shape[real.ndim:]), values.dtype)
    found[batch.places[real]] = values[real]
    return found


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
    room, loads = -(-len(units) // shards), [0] * shards
    chosen: list[list[int]] = [[] for _ in range(shards)]
    for number in sorted(range(len(units)), key=lambda number: -costs[number]):
        shard = min((s for s in range(shards) if len(chosen[s]) < room), key=loads.__getitem__)
        chosen[shard].append(number)
        loads[shard] += costs[number]
    return [np.concatenate([units[number] for number in sorted(part)]) if part else np.zeros(0, np.int64)
            for part in chosen]


def _numbered(answers: Answers) -> Answers:
    """The answers with the places that they have now, unless they are part of more and have their places there."""
    places = np.arange(len(answers.lengths), dtype=np.int32)
    return dataclasses.replace(answers, extras={"places": places} | answers.extras)


def _pack_part(answers: Answers, row_length: int, sequences: int, row_multiple: int) -> TrainBatch:
    """The rows of one shard."""
    segments = segment(answers, row_length)
    layout = first_fit_decreasing([s.length for s in segments], row_length)
    height = -(-max(len(layout), 1) // row_multiple) * row_multiple
    packed = {name: np.zeros((height, row_length), np.int32) for name in _PACKED}
    rows, sources = np.zeros(sequences, np.int32), np.zeros((sequences, answers.ids.shape[1]), np.int32)
    for row, members in enumerate(layout):
        column = 0
        for number, member in enumerate(members, start=1):
            column = _write_segment(answers, segments[member], packed, (row, column, number), rows, sources)
    fill = sequences - len(answers.lengths)
    padded = {name: _pad(getattr(answers, name), fill) for name in ("ids", "lengths", "groups")}
    extras = {name: _pad(array, fill) for name, array in answers.extras.items() if name in TrainBatch._fields}
    return TrainBatch(**packed, rows=rows, sources=sources, **padded, **extras)


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


def _pad(array: np.ndarray, fill: int) -> np.ndarray:
    return np.pad(array, [(0, fill)] + [(0, 0)] * (array.ndim - 1))


def stack(parts: list[TrainBatch]) -> TrainBatch:
    """Micro-batches on a leading axis; fewer rows than the tallest are padded with empty ones."""
    return TrainBatch(*(np.stack(arrays) for arrays in zip(*_level(parts), strict=True)))


def _level(parts: list[TrainBatch]) -> list[TrainBatch]:
    """The parts with as many rows as the tallest."""
    height = max(part.tokens.shape[0] for part in parts)
    return [part._replace(**{name: _pad(getattr(part, name), height - part.tokens.shape[0]) for name in _PACKED})
            for part in parts]


def alone(answers: Answers, chosen: np.ndarray) -> Answers:
    """Some answers, each in a group of its own behind a copy of its prompt.

    Args: chosen: int indices, which may come more than once.
    """
    groups = answers.groups[chosen]
    return Answers(answers.prompt_ids[groups], answers.prompt_lengths[groups], np.arange(len(chosen), dtype=np.int32),
                   answers.ids[chosen], answers.lengths[chosen],
                   {name: array[chosen] for name, array in answers.extras.items()})


def apart(answers: Answers, chosen: np.ndarray) -> TrainBatch:
    """Some answers, each in a micro-batch of its own: [N, 1, ...]."""
    [batch] = minibatches(alone(answers, chosen), 1, len(chosen), answers.prompt_ids.shape[1] + answers.ids.shape[1],
                          order=None)
    return batch


def minibatches(answers: Answers, count: int, microbatches: int, row_length: int, order: np.ndarray | None,
                shards: int = 1) -> list[TrainBatch]:
    """Splits whole groups into `count` updates of `microbatches` parts each, and packs them.

    Args:
      order: a permutation of the groups; None keeps theirs.
      shards: see `pack`.

    Raises: ValueError: groups do not divide evenly, or an answer does not fit in a row.
    """
    groups = len(answers.prompt_lengths)
    if groups % (count * microbatches):
        raise ValueError(f"{groups} groups do not divide into {count} mini-batches of {microbatches} micro-batches")
    order = np.arange(groups) if order is None else order
    split = order.reshape(count, microbatches, -1)
    sequences = int(np.bincount(answers.groups, minlength=groups).max()) * split.shape[-1]
    multiple, answers = max(1, split.shape[-1] // (4 * shards)), _numbered(answers)
    return [stack([pack(answers.take_groups(part), row_length, sequences, multiple, shards) for part in parts])
            for parts in split]


def uneven_minibatches(answers: Answers, count: int, microbatches: int, row_length: int, order: np.ndarray | None,
                       shards: int = 1) -> list[TrainBatch]:
    """`minibatches` for groups of any number and sizes: parts of about as many answers, each group whole in one.

    Sizes are rounded up to quarters of an even share, so that few shapes are compiled. A part may be empty.

    Args: order: a permutation of the groups; None keeps theirs, from part to part. shards: see `pack`.
    Raises: ValueError: an answer does not fit in a row.
    """
    parts, answers = count * microbatches, _numbered(answers)
    sizes = np.bincount(answers.groups, minlength=len(answers.prompt_lengths))
    split = _in_turn(sizes, parts) if order is None else _balanced(sizes, parts, order)
    step = max(1, -(-len(answers.lengths) // (4 * parts)))
    sequences = -(-max(int(sizes[part].sum()) for part in split) // step) * step
    longest = answers.prompt_ids.shape[1] + answers.ids.shape[1]
    multiple = max(1, step * longest // (row_length * shards))

    def packed_for(sequences: int) -> list[TrainBatch]:
        return [pack(answers.take_groups(part), row_length, sequences, multiple, shards) for part in split]

    packed = packed_for(sequences)
    if shards > 1:  # a shard that got many answers makes its part larger than the others
        packed = packed_for(max(len(part.lengths) for part in packed))
    return [stack(packed[start:start + microbatches]) for start in range(0, parts, microbatches)]


def _in_turn(sizes: np.ndarray, parts: int) -> list[np.ndarray]:
    """Groups by part, in their order: a group belongs where its middle answer does."""
    middle = (np.cumsum(sizes) - sizes / 2) * parts / max(sizes.sum(), 1)
    place = np.minimum(middle.astype(int), parts - 1)
    return [np.flatnonzero(place == part) for part in range(parts)]


def _balanced(sizes: np.ndarray, parts: int, order: np.ndarray) -> list[np.ndarray]:
    """Groups by part: the largest first, each to the part with the fewest answers; `order` breaks ties."""
    split: list[list[int]] = [[] for _ in range(parts)]
    filled = np.zeros(parts, int)
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        part = int(filled.argmin())
        split[part].append(group)
        filled[part] += sizes[group]
    return [np.asarray(part, int) for part in split]
