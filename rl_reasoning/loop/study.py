"""Studies: several algorithms over several seeds, run one after another, resumable, and read back as paths."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as FilePath

import numpy as np

from rl_reasoning.config import Experiment
from rl_reasoning.evaluation.pass_at_k import pass_at_k, powers_of_two
from rl_reasoning.evaluation.paths import Path
from rl_reasoning.evaluation.verdicts import Claim, verdict_rows
from rl_reasoning.loop.modes import run_experiment
from rl_reasoning.reporting.console import say
from rl_reasoning.reporting.report import write_report
from rl_reasoning.reporting.results import BASE
from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.reporting.study_pictures import study_picture
from rl_reasoning.reporting.table import markdown_table, plain


class StudyStopped(RuntimeError):
    """A run of the study did not end well; `code` is its exit code."""

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


@dataclasses.dataclass(frozen=True)
class Unit:
    """Algorithms that are run by one call from one base, with the same settings.

    Attributes:
      experiment: of mode compare; its name and seed make the folder below its workdir.
      paths: {algorithm of `experiment.compare`: what the study calls its path}.
    """

    experiment: Experiment
    paths: Mapping[str, str]

    def folder(self, algorithm: str) -> RunFolder | None:
        """The run that is finished, or None. A run that was stopped may lie beside it."""
        name = f"{self.experiment.name}-seed{self.experiment.seed}"
        for parent in sorted(FilePath(self.experiment.workdir).glob(f"{name}*")):
            path = parent / algorithm
            if path.is_dir() and self._ended(RunFolder(path), algorithm):
                return RunFolder(path)
        return None

    def _ended(self, folder: RunFolder, algorithm: str) -> bool:
        last = 0 if algorithm == BASE else self.experiment.rl.steps
        return any(record["step"] == last for record in folder.evaluations())

    @property
    def finished(self) -> bool:
        """Whether every run of the unit has ended."""
        return all(self.folder(algorithm) is not None for algorithm in self.experiment.compare)


def run_units(units: Sequence[Unit], run: Callable[[Experiment], int] = run_experiment) -> None:
    """Runs what is not finished, and says how far the study is.

    Raises:
      StudyStopped: a run ended with another code than 0; the next call goes on there.
    """
    start, done = time.monotonic(), 0
    for number, unit in enumerate(units, start=1):
        name = f"{unit.experiment.name}, seed {unit.experiment.seed}"
        if unit.finished:
            say(f"[{number} of {len(units)}] {name}: finished already")
            continue
        left = (time.monotonic() - start) / done * (len(units) - number + 1) if done else None
        say(f"[{number} of {len(units)}] {name}: {', '.join(unit.paths.values())}"
            + (f"; about {left / 60:.0f} min left" if left is not None else ""))
        code = run(unit.experiment)
        if code:
            raise StudyStopped(f"{name} ended with code {code}; the same command goes on there", code)
        done += 1


def read_paths(units: Sequence[Unit]) -> tuple[dict[str, Path], tuple[int, ...]]:
    """The paths of finished units by name, and their values of k.

    Raises:
      ValueError: a unit is not finished, or evaluations differ in their problems.
    """
    folders: dict[str, dict[int, RunFolder]] = {}
    for unit in units:
        for algorithm, name in unit.paths.items():
            folder = unit.folder(algorithm)
            if folder is None:
                raise ValueError(f"{unit.experiment.name}, seed {unit.experiment.seed}: {algorithm} is not finished")
            folders.setdefault(name, {})[unit.experiment.seed] = folder
    records = {name: {seed: folder.evaluations() for seed, folder in of_seed.items()}
               for name, of_seed in folders.items()}
    every = [record for of_seed in records.values() for found in of_seed.values() for record in found]
    if len({record["problem_set"] for record in every}) != 1:
        raise ValueError("the runs of the study were evaluated on different problems")
    least = min(min(record["total"]) for record in every)
    ks = powers_of_two(every[0]["samples"], at_most=least)
    base = records.pop(BASE)
    return {name: _path([_with_base(base[seed], of_seed[seed]) for seed in sorted(of_seed)], ks)
            for name, of_seed in records.items()}, ks


def _with_base(base: Sequence[Mapping], records: Sequence[Mapping]) -> list[Mapping]:
    return [base[0], *(record for record in records if record["step"])]


def _path(seeds: Sequence[Sequence[Mapping]], ks: Sequence[int]) -> Path:
    """Seeds' evaluations at the steps that all of them have."""
    steps = sorted(set.intersection(*({record["step"] for record in records} for records in seeds)))
    chosen = [[next(record for record in records if record["step"] == step) for step in steps] for records in seeds]
    return Path(tuple(steps),
                np.stack([[pass_at_k(np.asarray(each["right"]), np.asarray(each["total"]), ks) for each in row]
                          for row in chosen]),
                np.stack([[each["problem_entropy"] for each in row] for row in chosen]))


@dataclasses.dataclass(frozen=True)
class Study:
    """What is compared, and how it is judged.

    Attributes:
      name: of its folder, with what is varied behind it.
      title: for people.
      units: from shared settings and one seed to the runs of that seed.
      judge: from paths, ks and the steps after which they are compared to claims.
      pair: the two paths that the picture compares at matched Pass@1.
      seeds: how many, unless told otherwise.
    """

    name: str
    title: str
    units: Callable[[Experiment], list[Unit]]
    judge: Callable[[Mapping[str, Path], Sequence[int], int], list[Claim]]
    pair: tuple[str, str]
    seeds: int


def run_study(study: Study, shared: Experiment, seeds: int) -> str:
    """Runs what is missing of a study in its folder `shared.workdir`, judges it, and returns the text for the screen.

    The folder gets verdicts.md, verdicts.json, study.svg, study.png and report.html.

    Raises:
      StudyStopped, ConfigError: see `run_units`.
    """
    units = [unit for seed in range(seeds) for unit in study.units(dataclasses.replace(shared, seed=seed))]
    run_units(units)
    paths, ks = read_paths(units)
    out, step = FilePath(shared.workdir), shared.rl.steps
    note = (f"{seeds} seeds, {shared.evaluation.problems} held-out problems, {shared.evaluation.samples} answers each, "
            f"{step} steps. Pass@k is in percent, effects in points, those on entropy in hundredths of a nat.")
    told = conclude(out, study.title, result_rows(paths, ks, step), study.judge(paths, ks, step), [note])
    study_picture(paths, ks, step, study.pair).save(out)
    folders = [folder for unit in units for algorithm in unit.paths if (folder := unit.folder(algorithm))]
    return f"{told}\nreport: {write_report(out / 'report.html', folders, study.title)}"


def result_rows(paths: Mapping[str, Path], ks: Sequence[int], step: int) -> list[list[str]]:
    """A head, the base, and each path after `step`: mean Pass@k in percent, and entropy."""
    rows = [["k", *map(str, ks), "entropy"]]
    first = next(iter(paths.values()))
    for name, path, at in (("base", first, 0), *((name, path, step) for name, path in paths.items())):
        place = path.steps.index(at)
        rows.append([name, *(f"{100 * value:.1f}" for value in path.pass_at[:, place].mean(axis=(0, 1))),
                     f"{path.entropy[:, place].mean():.3f}"])
    return rows


def conclude(out: FilePath, title: str, rows: Sequence[Sequence[str]], claims: Sequence[Claim],
             notes: Sequence[str]) -> str:
    """Writes verdicts.md and verdicts.json to the study's folder; returns the text for the screen."""
    judged = verdict_rows(claims)
    parts = [f"# {title}", *notes, markdown_table(rows), markdown_table(judged)]
    (out / "verdicts.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    record = [{"number": each.number, "sentence": each.sentence, "verdict": each.verdict,
               "effects": [dataclasses.asdict(effect) | {"verdict": effect.verdict} for effect in each.effects]}
              for each in claims]
    (out / "verdicts.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    sentences = "\n".join(f"({each.number}) {each.sentence}: {each.verdict}" for each in claims)
    return "\n\n".join([*notes, plain(rows), sentences])
