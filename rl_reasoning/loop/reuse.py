"""Between a step's answers and those of earlier steps that are trained on again."""

from collections.abc import Sequence

import numpy as np

from rl_reasoning import keys
from rl_reasoning.allocation import History, Replay
from rl_reasoning.allocation.replay import Group, Recalled
from rl_reasoning.loop.collect import Collected
from rl_reasoning.training.batch import Answers
from rl_reasoning.types import Problem

# Of a group: what the answers' extras call it.
_EXTRAS = {"old_logprobs": "logprobs", "rewards": "rewards", "shaped": "rewards", "truncated": "truncated"}


def recalled(options: Replay, history: History, collected: Collected, step: int, seed: int) -> Recalled | None:
    """Earlier answers that a step is trained on, too; None where nothing is reused."""
    if not options.on:
        return None
    missing = unsolved(collected.problems, collected.groups, collected.rollout.rewards.ravel())
    return history.recall(missing, options, step, np.random.default_rng([seed, keys.Role.REUSE, step]))


def remembered(options: Replay, history: History, collected: Collected, answers: Answers, step: int) -> History:
    """The history after a step whose answers were these."""
    if not options.on:
        return history
    rates = collected.estimates.rates([problem.id for problem in collected.problems])
    return history.remember(groups_of(answers, collected.problems, step), rates, options, step)


def metrics(answers: Answers) -> dict[str, float]:
    """How many answers are trained on again, and their mean weight; {} where nothing is reused."""
    if "reused" not in answers.extras:
        return {}
    reused = answers.extras["reused"]
    weights = answers.extras["scale"][answers.mask & reused[:, None]]
    return {"reuse/answers": float(reused.sum()), "reuse/weight": float(weights.mean()) if reused.any() else 1.0}


def unsolved(problems: Sequence[Problem], groups: np.ndarray, rewards: np.ndarray) -> list[str]:
    """The ids of the problems none of whose answers is right. problems: [G]. groups, rewards: [N]."""
    solved = np.bincount(groups, weights=rewards > 0, minlength=len(problems)) > 0
    return [problem.id for problem, one in zip(problems, solved, strict=True) if not one]


def with_reused(answers: Answers, problems: Sequence[Problem], recalled: Recalled) -> Answers:
    """The answers with earlier ones, which `extras["reused"]` [N] marks: those to one of these problems join its group.

    Args: problems: [G], of the answers' groups.
    """
    places = {problem.id: place for place, problem in reversed(list(enumerate(problems)))}
    again = [*recalled.joining, *recalled.alone]
    count = len(answers.prompt_lengths)
    groups = [places[group.problem] for group in recalled.joining] + [*range(count, count + len(recalled.alone))]
    sizes = [len(group.lengths) for group in again]
    extras = {name: np.concatenate([array, *(_extra(name, array, group) for group in again)])
              for name, array in answers.extras.items()}
    extras["reused"] = np.repeat([False, True], [len(answers.lengths), sum(sizes)])
    numbers = np.concatenate([answers.groups, np.repeat(groups, sizes)]).astype(np.int32)
    order = np.argsort(numbers, kind="stable")
    width = answers.prompt_ids.shape[1]
    return Answers(
        np.concatenate([answers.prompt_ids, *(_padded(group.prompt, width) for group in recalled.alone)]),
        np.concatenate([answers.prompt_lengths, *([len(group.prompt)] for group in recalled.alone)]), numbers[order],
        np.concatenate([answers.ids, *(group.ids for group in again)])[order],
        np.concatenate([answers.lengths, *(group.lengths for group in again)])[order],
        {name: array[order] for name, array in extras.items()})


def groups_of(answers: Answers, problems: Sequence[Problem], step: int) -> list[Group]:
    """A step's own scorable answers, for the memory. problems: [G], of its groups."""
    extras = answers.extras
    own = np.isfinite(extras["shaped"]) & ~extras.get("reused", np.zeros(len(answers.lengths), bool))
    found = []
    for place, problem in enumerate(problems):
        rows = np.flatnonzero(own & (answers.groups == place))
        found.append(Group(problem.id, step, answers.prompt_ids[place, :answers.prompt_lengths[place]],
                           answers.ids[rows], answers.lengths[rows], extras["old_logprobs"][rows],
                           extras["shaped"][rows].astype(np.float32), extras["truncated"][rows]))
    return found


def _extra(name: str, like: np.ndarray, group: Group) -> np.ndarray:
    """What a group has under a name of the extras: 1 for `scale`, 0 for what is not known yet."""
    if name in _EXTRAS:
        return getattr(group, _EXTRAS[name])
    return np.full((len(group.lengths), *like.shape[1:]), name == "scale", like.dtype)


def _padded(prompt: np.ndarray, width: int) -> np.ndarray:
    return np.pad(prompt, (0, width - len(prompt)))[None]
