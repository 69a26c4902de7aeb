"""Answers of earlier steps that are trained on again: a bounded memory, and what comes back from it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rl_reasoning.require import require, require_choice

MOST_PROBLEMS = 4096  # rarely solved ones whose right answers are kept; the oldest go first


class Group(NamedTuple):
    """Scored answers to one problem.

    problem: its id. step: in which they were drawn. prompt: [Lp] int32. ids: [n, T] int32. lengths: [n] int32.
    logprobs: [n, T] float32, under the policy that drew them. rewards: [n] float32, as they were trained on, finite.
    truncated: [n] bool.
    """

    problem: str
    step: int
    prompt: np.ndarray
    ids: np.ndarray
    lengths: np.ndarray
    logprobs: np.ndarray
    rewards: np.ndarray
    truncated: np.ndarray

    def take(self, rows: np.ndarray) -> "Group":
        """Some of the answers. rows: indices or [n] bool."""
        return self._replace(**{name: getattr(self, name)[rows] for name in _TYPES if name != "prompt"})


_TYPES = {"prompt": np.int32, "ids": np.int32, "lengths": np.int32, "logprobs": np.float32, "rewards": np.float32,
          "truncated": np.bool_}


@dataclasses.dataclass(frozen=True)
class Replay:
    """Reuse of earlier answers; off as it stands. An option of it is written `replay_` and a field's name.

    Reused answers are weighed by the ratio of the current policy's probability to that which drew them, cut at `high`
    (`losses.importance_weights`), and the surrogate's own ratio starts at 1 for them as for fresh ones.

    Attributes:
      groups: problems of earlier steps that a step trains on beside its own, drawn at random from those whose rewards
        differ; 0 is none.
      steps: for how many steps they stay.
      positives: right answers kept of each problem that is rarely solved. When it comes again and none of its new
        answers is right, they join them; 0 is none.
      rare: the acceptance rate, in a problem's latest answers, below which it is rarely solved.
      level: of the weights, "token" or "sequence".
      high: the largest weight, a ratio.
    """

    groups: int = 0
    steps: int = 4
    positives: int = 0
    rare: float = 0.25
    level: str = "token"
    high: float = 2.0

    def __post_init__(self) -> None:
        for name, low in (("groups", 0), ("steps", 1), ("positives", 0)):
            value = getattr(self, name)
            require(value >= low, f"replay_{name}", value, f"replay_{name} >= {low}", "Give a whole number.")
        require(0 < self.rare <= 1, "replay_rare", self.rare, "0 < replay_rare <= 1", "Give a rate, such as 0.25.")
        require_choice("replay_level", self.level, ("token", "sequence"))
        require(1 <= self.high < math.inf, "replay_high", self.high, "1 <= replay_high < inf",
                "Give the largest ratio, such as 2.")

    @property
    def on(self) -> bool:
        """Whether anything is replayed."""
        return self.groups > 0 or self.positives > 0


class Recalled(NamedTuple):
    """joining: right answers that join the new ones to their problem. alone: groups for themselves."""

    joining: Sequence[Group]
    alone: Sequence[Group]


@dataclasses.dataclass(frozen=True)
class History:
    """What is kept of earlier steps; a value: remembering gives another.

    recent: groups whose rewards differ, oldest first. positives: problem -> its latest right answers.
    """

    recent: tuple[Group, ...] = ()
    positives: Mapping[str, Group] = dataclasses.field(default_factory=dict)

    def remember(self, groups: Sequence[Group], rates: np.ndarray, options: Replay, step: int) -> "History":
        """With a step's own groups. rates: [G] acceptance rates of their problems."""
        recent = [group for group in self.recent if step - group.step < options.steps]
        if options.groups:
            recent += [group for group in groups if len(group.rewards) and np.ptp(group.rewards) > 0]
        positives = dict(self.positives)
        if options.positives:
            for group, rate in zip(groups, rates, strict=True):
                right = group.take(np.flatnonzero(group.rewards > 0)[:options.positives])
                kept = right if len(right.rewards) else positives.get(group.problem)
                positives.pop(group.problem, None)
                if rate < options.rare and kept is not None:
                    positives[group.problem] = kept
        return History(tuple(recent), dict(list(positives.items())[-MOST_PROBLEMS:]))

    def recall(self, unsolved: Sequence[str], options: Replay, step: int, rng: np.random.Generator) -> Recalled:
        """What a step trains on again. unsolved: its problems none of whose answers is right."""
        joining = [self.positives[problem] for problem in dict.fromkeys(unsolved) if problem in self.positives]
        young = [group for group in self.recent if step - group.step <= options.steps]
        return Recalled(joining, [young[place] for place in rng.permutation(len(young))[:options.groups]])

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint keeps; JSON-able, and exact."""
        return {"recent": [_lists(group) for group in self.recent],
                "positives": [_lists(group) for group in self.positives.values()]}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "History":
        """What `get_state` gave."""
        recent, positives = ([_group(lists) for lists in state.get(name, ())] for name in ("recent", "positives"))
        return cls(tuple(recent), {group.problem: group for group in positives})


def _lists(group: Group) -> dict[str, Any]:
    return {name: value.tolist() if name in _TYPES else value for name, value in group._asdict().items()}


def _group(lists: Mapping[str, Any]) -> Group:
    return Group(**{name: np.asarray(value, _TYPES[name]) if name in _TYPES else value
                    for name, value in lists.items()})
