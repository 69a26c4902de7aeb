"""A step's answers as the batches of its updates: split by whole groups, then packed."""

import numpy as np

from rl_reasoning.parallel import ONE_PART, Shards
from rl_reasoning.training.batch import Answers, TrainBatch
from rl_reasoning.training.packing import numbered, pack_alike, stack


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
                          order=None, rows=1)
    return batch


def minibatches(answers: Answers, count: int, microbatches: int, row_length: int, order: np.ndarray | None, *,
                rows: int = 0, shards: Shards = ONE_PART) -> list[TrainBatch]:
    """Splits whole groups into `count` updates of `microbatches` parts each, and packs them.

    Args:
      order: a permutation of the groups; None keeps theirs.
      rows, shards: see `pack_alike`.

    Raises: ValueError: groups do not divide evenly, or an answer does not fit in a row.
    """
    groups = len(answers.prompt_lengths)
    if groups % (count * microbatches):
        raise ValueError(f"{groups} groups do not divide into {count} mini-batches of {microbatches} micro-batches")
    order = np.arange(groups) if order is None else order
    answers, split = numbered(answers), order.reshape(count * microbatches, -1)
    sequences = int(np.bincount(answers.groups, minlength=groups).max()) * split.shape[-1]
    packed = pack_alike([answers.take_groups(part) for part in split], row_length, sequences, rows=rows, shards=shards)
    return _grouped(packed, microbatches)


def uneven_minibatches(answers: Answers, count: int, microbatches: int, row_length: int, order: np.ndarray | None,
                       *, shards: Shards = ONE_PART) -> list[TrainBatch]:
    """`minibatches` for groups of any number and sizes: parts of about as many answers, each group whole in one.

    Sizes are rounded up to quarters of an even share, so that few shapes are compiled. A part may be empty.

    Args: order: a permutation of the groups; None keeps theirs, from part to part. shards: see `pack_alike`.
    Raises: ValueError: an answer does not fit in a row.
    """
    parts, answers = count * microbatches, numbered(answers)
    sizes = np.bincount(answers.groups, minlength=len(answers.prompt_lengths))
    split = _in_turn(sizes, parts) if order is None else _balanced(sizes, parts, order)
    step = max(1, -(-len(answers.lengths) // (4 * parts)))
    sequences = -(-max(int(sizes[part].sum()) for part in split) // step) * step
    packed = pack_alike([answers.take_groups(part) for part in split], row_length, sequences, shards=shards)
    return _grouped(packed, microbatches)


def _grouped(parts: list[TrainBatch], size: int) -> list[TrainBatch]:
    """As many micro-batches at a time as belong together."""
    return [stack(parts[start:start + size]) for start in range(0, len(parts), size)]


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
