"""What an update knows of its answers, before they are packed and after."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from rl_reasoning.parallel import Layout


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
    listed: [S, K] int32, which of the N / S * T tokens of each of S shards are an answer's, in their order; then 0.
      S is `parallel.Shards.answers`.
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
    listed: np.ndarray
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


PACKED = ("tokens", "positions", "segments", "branches")
_FLOATS = ("old_logprobs", "advantages", "weights", "scale", "ref_logprobs", "values", "returns")


def shardings_of_batch(layout: Layout) -> TrainBatch:
    """A `TrainBatch` of what splits each of its arrays, with micro-batches, over devices."""
    found: Any = {name: layout.rows(1) if name in PACKED else layout.answers(1) for name in TrainBatch._fields}
    return TrainBatch(**found)


def no_extras(answers: int, tokens: int) -> dict[str, np.ndarray]:
    """Zeros for all that a loss reads of N answers of T tokens; callers replace what they have."""
    return dict.fromkeys(_FLOATS, np.zeros((answers, tokens), np.float32)) | {"rewards": np.zeros(answers, np.float32)}


def unpacked(batch: TrainBatch, values: np.ndarray) -> np.ndarray:
    """[answers, ...] in the order in which they were packed, from what was computed of a batch: [M, N, ...]."""
    real = batch.lengths > 0
    found = np.empty((real.sum(), *values.shape[real.ndim:]), values.dtype)
    found[batch.places[real]] = values[real]
    return found
