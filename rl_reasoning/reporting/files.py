"""The report's numbers and pictures as files: CSV for other programs, SVG and PNG for papers."""

import csv
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rl_reasoning.evaluation.summary import every_k
from rl_reasoning.reporting import figures
from rl_reasoning.reporting.report_results import problem_pictures, result_pictures
from rl_reasoning.reporting.report_training import training_pictures
from rl_reasoning.reporting.results import Result, collect, run_names
from rl_reasoning.reporting.run_folder import RunFolder

_RESAMPLES = 1000


def write_files(folder: str | os.PathLike, runs: Sequence[RunFolder]) -> list[pathlib.Path]:
    """Writes the pictures of these runs' report as SVG and PNG, pass_at_k.csv and training.csv; returns the paths.

    pass_at_k.csv: policy, step, seeds, k, mean, low, high for every k. training.csv: run, phase, step, metric, value.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names, results = run_names(runs), collect(runs)
    styles = figures.style([each.name for each in results] + names)
    pictures = [each.picture for each in result_pictures(results, styles)]
    pictures += problem_pictures(results, styles) + training_pictures(runs, names, styles)
    paths = [path for picture in pictures for path in picture.save(folder)]
    curves, training = folder / "pass_at_k.csv", folder / "training.csv"
    _write(curves, ("policy", "step", "seeds", "k", "mean", "low", "high"), _curve_rows(results))
    _write(training, ("run", "folder", "phase", "step", "metric", "value"), _training_rows(runs, names))
    return [*paths, curves, training]


def _curve_rows(results: Sequence[Result]) -> Iterable[tuple[Any, ...]]:
    for each in results:
        totals = np.stack([source.record["total"] for source in each.sources])
        rights = np.stack([source.record["right"] for source in each.sources])
        seeds = " ".join(map(str, each.seeds))
        for row in every_k(rights, totals, _RESAMPLES, seed=0):
            yield (each.name, each.step, seeds, *row)


def _training_rows(runs: Sequence[RunFolder], names: Sequence[str]) -> Iterable[tuple[Any, ...]]:
    for run, name in zip(runs, names, strict=True):
        for record in (*run.metrics(), *run.timings()):
            for metric in sorted(record.keys() - {"step", "phase"}):
                yield name, run.path.name, record["phase"], record["step"], metric, record[metric]


def _write(path: pathlib.Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)
