"""Early warnings: what leaves its band is said once, and what cannot go on ends the run while its cause is at hand."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from rl_reasoning.config import Watch
from rl_reasoning.reporting.console import say
from rl_reasoning.types import Rollouts

IDLE, PATIENCE = 5, 3
# metric: (setting of its bound, whether more is worse, what it means)
_BANDS = {
    "policy/entropy": ("entropy_low", False, "the policy has all but stopped to explore"),
    "policy/kl_reference": ("kl_high", True, "the policy is far from where it started"),
    "length/repetition": ("repetition_high", True, "answers go in circles"),
    "length/truncated": ("truncated_high", True, "answers run out of room before they end"),
    "optimizer/gradient_norm": ("gradient_high", True, "gradients are large"),
}


class TrainingFailed(RuntimeError):
    """The run cannot go on: nothing could be scored, or the gradient stayed without a finite value."""


class Diverged(TrainingFailed):
    """No update had a finite gradient for too long.

    Attributes: since: the first step of the streak.
    """

    def __init__(self, message: str, since: int):
        super().__init__(message)
        self.since = since


class NothingInformative(TrainingFailed):
    """A plan that refills has found no problem with two different rewards for too long."""


def watch(settings: Watch, streaks: Mapping[str, int], step: int, metrics: Mapping[str, float]) -> dict[str, int]:
    """Counts the steps in a row that went wrong in one way, and says so when it is time.

    Args: streaks: those before this step. Returns those after it.
    Raises Diverged after `settings.skipped` steps whose updates were all skipped, and NothingInformative after
    `settings.uninformative` steps in which a plan that refills found nothing.
    """
    wrong = {"skipped": metrics["optimizer/skipped"] == 1, "idle": metrics["optimizer/idle"] == 1,
             "uninformative": metrics.get("plan/informative") == 0,
             **{name: True for name, _ in outside(settings, metrics)}}
    found = {name: streaks.get(name, 0) + 1 for name, is_so in wrong.items() if is_so}
    for name, message in outside(settings, metrics):
        if found[name] == PATIENCE:
            say(f"warning: step {step}: {message}")
    if found.get("idle") == IDLE:
        say(f"step {step}: nothing to learn from for {IDLE} steps; no answer counted: groups/all_right and "
            "groups/all_wrong in metrics.jsonl say why")
    if 0 < settings.uninformative <= found.get("uninformative", 0):
        raise NothingInformative(
            f"no group of the last {found['uninformative']} steps had answers with different rewards, in "
            f"{metrics['plan/rounds']:.0f} rounds of problems a step. Of the last step's, "
            f"{_percent(metrics, 'all_right')} were all right and {_percent(metrics, 'all_wrong')} all wrong. Nothing "
            "is left to learn from these problems: give harder or easier ones or more rl.samples, or "
            "watch.uninformative=0 to go on all the same")
    if found.get("skipped", 0) >= settings.skipped:
        raise Diverged(f"no update of the last {found['skipped']} steps had a finite gradient: lower "
                       "rl.optimizer.learning_rate, or look at metrics.jsonl for when it began",
                       step - found["skipped"] + 1)
    return found


def _percent(metrics: Mapping[str, float], name: str) -> str:
    return f"{100 * metrics[f'groups/{name}']:.0f} %"


def outside(settings: Watch, metrics: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """The metrics outside their bands, each with a sentence that gives the value, the bound and its setting."""
    for name, (setting, high, meaning) in _BANDS.items():
        bound, value = getattr(settings, setting), metrics.get(name)
        if value is None or not bound or not (value > bound if high else value < bound):
            continue
        yield name, f"{name} is {value:.4g}, {'above' if high else 'below'} watch.{setting}={bound:g}: {meaning}"


def repetition(ids: np.ndarray, lengths: np.ndarray, size: int = 4) -> float:
    """The mean share of an answer's runs of `size` tokens that came before in it; 0 for answers with fewer.

    Args: ids [N, T] int; lengths [N].
    """
    runs = ids.shape[1] - size + 1
    if runs < 1:
        return 0.0
    codes = np.zeros((len(ids), runs), np.uint64)
    for place in range(size):  # a number for each run, so that equal runs have equal numbers
        codes = codes * np.uint64(0x9E3779B97F4A7C15) + ids[:, place:place + runs].astype(np.uint64) + np.uint64(1)
    count = np.maximum(lengths - size + 1, 0)
    real = np.arange(runs) < count[:, None]
    ordered = np.sort(np.where(real, codes, np.iinfo(np.uint64).max), axis=1)
    again = (ordered[:, 1:] == ordered[:, :-1]) & real[:, 1:]
    return float((again.sum(axis=1) / np.maximum(count, 1)).mean())


def dump(path: Path, rollout: Rollouts, sampled_by: int) -> None:
    """Writes a step's answers with their tokens, one JSON object a line, for whoever looks for the cause.

    Args: sampled_by: the step after which the policy was what drew them.
    """
    path.parent.mkdir(exist_ok=True)
    completions = rollout.completions
    with path.open("w", encoding="ascii", newline="\n") as file:
        for row, column in np.ndindex(rollout.rewards.shape):
            end, verdict = completions.lengths[row, column], rollout.verdicts[row][column]
            record = {"problem": rollout.problems[row].id, "text": rollout.texts[row][column],
                      "outcome": verdict.outcome.value, "reward": str(rollout.rewards[row, column]),
                      "ids": completions.ids[row, column, :end].tolist(),
                      "sampled_by": sampled_by,
                      "logprobs": [str(value) for value in completions.logprobs[row, column, :end]]}
            file.write(json.dumps(record) + "\n")
