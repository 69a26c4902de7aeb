"""Evaluations as people compare them: the seeds of one algorithm together, and against the base."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rl_reasoning.evaluation.pass_at_k import Interval, bootstrap_interval, paired_difference, pass_at_k
from rl_reasoning.reporting.run_folder import RunFolder, differing_settings

BASE = "base"
_NAMES = {BASE: "Base", "dr_grpo": "Dr. GRPO", "reinforce_plus_plus": "REINFORCE++"}
# Settings that name a run, or say where it lives, and do not change what it learns.
_NOT_A_VARIANT = {"seed", "name", "workdir", "mode", "compare", "algorithm"}
_RESAMPLES = 1000
_MEANS = ("entropy", "length", "format", "accuracy_given_format", "truncated", "unscorable")


class Source(NamedTuple):
    """A summary record (see `RunFolder.write_evaluation`) and the run it lies in."""

    folder: RunFolder
    record: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Result:
    """One policy's evaluation, over S >= 1 seeds on the same P problems.

    Attributes:
      name: what people read: "Base", "W-REINFORCE", or see `run_names`.
      step: RL steps done; 0 for the base.
      sources: where each of the S seeds' evaluations comes from.
      problem_set: equal for evaluations on the same problems in the same order.
      samples: answers a problem, n.
      ks: K values of k that every problem and seed can estimate.
      per_problem: [S, P, K] Pass@k.
      interval: mean and 95 % interval over problems, and over seeds where there are several, each [K].
      means: the evaluation's other numbers, each the mean over the seeds that have it.
      ids: [P] of the problems.
      right: [S, P] right answers of each problem.
      facts: {name: [P]}, what accuracy is broken down by, each problem's value of it.
    """

    name: str
    step: int
    sources: tuple[Source, ...]
    problem_set: str
    samples: int
    ks: tuple[int, ...]
    per_problem: np.ndarray
    interval: Interval
    means: dict[str, float]
    ids: tuple[str, ...] = ()
    right: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0), int))
    facts: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def at(self, k: int) -> tuple[float, float, float]:
        """Mean, low and high of Pass@k, as shares."""
        return _row(self.interval, self.ks.index(k))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the runs that make up this result."""
        return tuple(source.record["seed"] for source in self.sources)

    @property
    def is_base(self) -> bool:
        """Whether it is the policy before reinforcement learning."""
        return self.name == display_name(BASE)


@dataclasses.dataclass(frozen=True)
class Change:
    """Pass@k of one result minus another's on the same problems: K values of k and their interval, each [K]."""

    ks: tuple[int, ...]
    interval: Interval

    def at(self, k: int) -> tuple[float, float, float]:
        """Mean, low and high of the difference at k, as shares."""
        return _row(self.interval, self.ks.index(k))

    def clear(self, k: int) -> bool:
        """Whether the interval at k leaves zero out."""
        _, low, high = self.at(k)
        return not low <= 0.0 <= high


def by_group(result: Result, fact: str) -> dict[str, tuple[int, float, float, float]]:
    """{value: (problems, mean, low, high)} of Pass@1 with 95 % intervals, numbers in their order before texts."""
    values = result.facts.get(fact, ())
    groups, found = np.asarray(values), {}
    for value in sorted(set(values), key=_number_first):
        chosen = result.per_problem[:, groups == value, :1]
        low, high = bootstrap_interval(chosen, _RESAMPLES, seed=0)
        found[value] = (chosen.shape[1], float(chosen.mean()), float(low[0]), float(high[0]))
    return found


def display_name(algorithm: str) -> str:
    """ "w_reinforce" -> "W-REINFORCE", "grpo" -> "GRPO", "base" -> "Base"."""
    return _NAMES.get(algorithm, algorithm.upper().replace("_", "-"))


def run_names(folders: Sequence[RunFolder]) -> list[str]:
    """What to call each run: its algorithm, and the settings in which it differs from others of that algorithm.

    Runs that differ in nothing but the seed get the same name: they are the seeds of one result.
    """
    configs = [folder.config()["config"] for folder in folders]
    algorithms = [_algorithm(folder, config) for folder, config in zip(folders, configs, strict=True)]
    names = []
    for index, algorithm in enumerate(algorithms):
        peers = [peer for peer, other in enumerate(algorithms) if other == algorithm]
        differing = differing_settings([configs[peer] for peer in peers])
        own = [
            f"{setting} {values[peers.index(index)]}"
            for setting, values in differing.items()
            if setting not in _NOT_A_VARIANT
        ]
        names.append(", ".join([display_name(algorithm), *own]))
    return names


def collect(folders: Sequence[RunFolder]) -> list[Result]:
    """The evaluations of these runs: the base first, then each run's (see `run_names`) in order of steps.

    Runs of one name become one result a step; a step that not every seed has reached is left out. A base
    that several runs share is counted once, and so is a run that was repeated with the same seed.

    Raises:
      ValueError: runs that belong together were evaluated on different problems.
    """
    bases: dict[tuple, Source] = {}
    runs: dict[str, dict[int, dict[int, Source]]] = {}
    for folder, name in zip(folders, run_names(folders), strict=True):
        for record in folder.evaluations():
            if record["label"] == BASE:
                bases.setdefault((tuple(record["right"]), tuple(record["total"])), Source(folder, record))
            else:
                runs.setdefault(name, {}).setdefault(record["step"], {})[record["seed"]] = Source(folder, record)
    results = [_result(display_name(BASE), list(bases.values()))] if bases else []
    for name, steps in runs.items():
        seeds = max(len(sources) for sources in steps.values())
        results += [_result(name, list(steps[step].values())) for step in sorted(steps) if len(steps[step]) == seeds]
    return results


def base_of(results: Sequence[Result]) -> Result | None:
    """The base among these results, if it was evaluated."""
    return next((each for each in results if each.is_base), None)


def final_of(results: Sequence[Result]) -> list[Result]:
    """The last result of each run, in order of appearance, without the base."""
    return list({each.name: each for each in results if not each.is_base}.values())


def difference(after: Result, before: Result) -> Change | None:
    """Pass@k of `after` minus `before` at the values of k that both have; None unless the problems are the same."""
    ks = tuple(k for k in after.ks if k in before.ks)
    if after.problem_set != before.problem_set or after.per_problem.shape[1] != before.per_problem.shape[1] or not ks:
        return None
    one, other = (each.per_problem[:, :, [each.ks.index(k) for k in ks]] for each in (after, before))
    return Change(ks, paired_difference(one, other, resamples=_RESAMPLES))


def _result(name: str, sources: Sequence[Source]) -> Result:
    records = [source.record for source in sources]
    sets = {(record["problem_set"], record["problems"]) for record in records}
    if len(sets) > 1:
        raise ValueError(
            f"{name}, step {records[0]['step']}: {', '.join(str(source.folder.path) for source in sources)} were "
            "evaluated on different problems: report them one by one"
        )
    first = records[0]
    ks = tuple(sorted(set.intersection(*({int(k) for k in record["pass_at_k"]} for record in records))))
    # Problems without a scorable answer in one of the records have no Pass@k.
    known = np.all([np.asarray(record["total"]) > 0 for record in records], axis=0)
    counts = [(np.asarray(record["right"])[known], np.asarray(record["total"])[known]) for record in records]
    per_problem = np.stack([pass_at_k(right, total, ks) for right, total in counts])
    unknown = "" if known.all() else f" without {np.flatnonzero(~known).tolist()}"
    return Result(
        name,
        first["step"],
        tuple(sources),
        first["problem_set"] + unknown,
        first["samples"],
        ks,
        per_problem,
        _interval(records, per_problem, ks),
        _means(records),
        _kept(first.get("ids", ()), known),
        np.stack([right for right, _ in counts]),
        {name: _kept(values, known) for name, values in first.get("facts", {}).items()},
    )


def _kept(values: Sequence[str], known: np.ndarray) -> tuple[str, ...]:
    return tuple(value for value, kept in zip(values, known, strict=False) if kept)


def _number_first(value: str) -> tuple[int, float, str]:
    """A key that sorts "2" before "10", and both before "hard"."""
    try:
        return 0, float(value), value
    except ValueError:
        return 1, 0.0, value


def _algorithm(folder: RunFolder, config: Mapping[str, Any]) -> str:
    if "algorithm" in config and config.get("mode") != "evaluate":
        return config["algorithm"]
    return next((record["algorithm"] for record in folder.evaluations()), folder.path.name)


def _row(interval: Interval, index: int) -> tuple[float, float, float]:
    mean, low, high = (float(part[index]) for part in interval)
    return mean, low, high


def _interval(records: Sequence[dict[str, Any]], per_problem: np.ndarray, ks: Sequence[int]) -> Interval:
    """The interval that the evaluation recorded; with several seeds, one over seeds and problems."""
    if len(records) == 1:
        return Interval(*np.array([records[0]["pass_at_k"][str(k)] for k in ks]).T)
    return Interval(per_problem.mean(axis=(0, 1)), *bootstrap_interval(per_problem, _RESAMPLES, seed=0))


def _means(records: Sequence[dict[str, Any]]) -> dict[str, float]:
    columns = {name: [record[name] for record in records if record.get(name) is not None] for name in _MEANS}
    return {name: float(np.mean(values)) for name, values in columns.items() if values}
