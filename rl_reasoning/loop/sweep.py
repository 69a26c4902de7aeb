"""A designed sweep: PSR and NSR from one base in many settings, which of them keeps more breadth in each, and why.

Runs are units of `loop.study`: a base for each seed and whatever makes one, evaluated once, and from it PSR and NSR in
every cell that shares it.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import numpy as np

from rl_reasoning.config import Experiment
from rl_reasoning.edge import read_experiment, to_config_dict
from rl_reasoning.evaluation.breadth import Difference, Side, best_gain, differences, matched_curves, pooled
from rl_reasoning.evaluation.paths import Path
from rl_reasoning.json_file import read_json
from rl_reasoning.loop import sign_noise
from rl_reasoning.loop.study import BASE, Unit, read_paths, run_units
from rl_reasoning.loop.warm_start import base_key
from rl_reasoning.reporting.console import say
from rl_reasoning.reporting.json_lines import write_whole
from rl_reasoning.reporting.map_picture import map_picture
from rl_reasoning.reporting.table import markdown_table, percent, plain, points

POOLED = "all cells"
NOTHING = (float("nan"), float("nan"))
NOTHING_COMMON = "no common gain"  # of Pass@1, in more than one resample in twenty
WORDS = {Side.ABOVE: "NSR above", Side.TIE: "tie", Side.BELOW: "PSR above", Side.UNDECIDED: "undecided"}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One setting of the sweep.

    Attributes:
      name: for folders. label: for people.
      changes: dotted setting -> value, over the settings that all cells share.
      longer: NSR's steps as a multiple of PSR's: where its steps are smaller, so that both reach a common Pass@1.
    """

    name: str
    label: str
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    longer: float = 2.0

    def experiment(self, shared: Experiment) -> Experiment:
        """The shared settings with this cell's. Raises ConfigError when they cannot be."""
        config = to_config_dict(shared)
        config.update_from_flattened_dict(self.changes)
        return read_experiment(config)

    def units(self, shared: Experiment) -> list[Unit]:
        """PSR and NSR, of the shared settings' seed."""
        own = self.experiment(shared)
        steps = {"psr": own.rl.steps, "nsr": round(self.longer * own.rl.steps)}
        return [Unit(_run(own, f"{self.name}-{sign}", sign, count), {sign: sign}) for sign, count in steps.items()]


def _run(experiment: Experiment, name: str, algorithm: str, steps: int) -> Experiment:
    """Evaluated as often along any number of steps."""
    every = max(1, round(experiment.evaluation.every * steps / max(1, experiment.rl.steps)))
    return dataclasses.replace(experiment, name=name, compare=(algorithm,),
                               rl=dataclasses.replace(experiment.rl, steps=steps),
                               evaluation=dataclasses.replace(experiment.evaluation, every=every))


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What is run, and how it is judged.

    Attributes:
      cells: the design.
      ks: at which k paths are compared.
      margin: a difference of Pass@k that is too small to matter.
      repeats: rollouts from which a gradient's noise is measured.
    """

    cells: Sequence[Cell]
    ks: tuple[int, ...] = (16, 64, 256)
    margin: float = 0.02
    repeats: int = 16
    resamples: int = 2000

    def __post_init__(self) -> None:
        names = [cell.name for cell in self.cells]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"cells have one name: {', '.join(repeated)}")


class Found(NamedTuple):
    """Of a cell: the differences NSR minus PSR, the base's Pass@k at k = 1 and at the largest, the largest gains of
    Pass@1 by PSR and by NSR, and the noise of its gradients, a record a seed (`sign_noise.record`)."""

    cell: Cell
    differences: Sequence[Difference]
    base: tuple[float, float]
    gains: tuple[float, float]
    noise: Sequence[Mapping[str, float]]

    def mean(self, name: str) -> float:
        """Of the noise's records; seeds in which the signal drowned have none."""
        known = [each[name] for each in self.noise if np.isfinite(each[name])]
        return float(np.mean(known)) if known else float("nan")

    @property
    def verdicts(self) -> list[str]:
        """For each k."""
        return [WORDS[each.side] if np.isfinite(each.low) else NOTHING_COMMON for each in self.differences]


def sweep_units(cells: Sequence[Cell], shared: Experiment) -> dict[str, list[Unit]]:
    """{cell: its units} of one seed. Cells whose base has the same settings share one unit for it."""
    bases: dict[str, Unit] = {}
    found = {}
    for cell in cells:
        own = cell.experiment(shared)
        base = Unit(_run(own, f"{cell.name}-base", BASE, own.rl.steps), {BASE: BASE})
        found[cell.name] = [bases.setdefault(base_key(own), base), *cell.units(shared)]
    return found


def run_sweep(sweep: Sweep, shared: Experiment, seeds: int) -> str:
    """Runs what is missing of a sweep in its folder `shared.workdir`, one seed of all cells after the other, judges
    it, and returns the text for the screen.

    The folder gets map.md, map.json, map.svg and map.png, and the noise of each cell and seed in noise/.

    Raises:
      StudyStopped, ConfigError: see `loop.study.run_units`.
    """
    of_seed = [sweep_units(sweep.cells, dataclasses.replace(shared, seed=seed)) for seed in range(seeds)]
    run_units(list({id(unit): unit for units in of_seed for group in units.values() for unit in group}.values()))
    noise = {cell.name: [measured(sweep, cell, dataclasses.replace(shared, seed=seed)) for seed in range(seeds)]
             for cell in sweep.cells}
    found = judge(sweep, {cell.name: read_paths([unit for units in of_seed for unit in units[cell.name]])
                          for cell in sweep.cells}, noise)
    note = (f"{seeds} seeds, {shared.evaluation.problems} held-out problems, {shared.evaluation.samples} answers each. "
            "Differences are NSR minus PSR in points at the same Pass@1, mean over the gain that both reach, with "
            f"intervals whose {len(sweep.ks)} values of k share 5 %; a tie lies within {100 * sweep.margin:g} points.")
    return _conclude(FilePath(shared.workdir), sweep, found, note)


def measured(sweep: Sweep, cell: Cell, shared: Experiment,
             measure: Callable[[Experiment, int], Any] = sign_noise.measure_noise) -> dict[str, float]:
    """The noise of a cell's gradients for the shared settings' seed; kept in the sweep's folder."""
    path = FilePath(shared.workdir) / "noise" / f"{cell.name}-seed{shared.seed}-{sweep.repeats}.json"
    if not path.exists():
        say(f"noise of {cell.name}, seed {shared.seed}: {sweep.repeats} rollouts of the same problems")
        path.parent.mkdir(exist_ok=True)
        write_whole(path, [json.dumps(sign_noise.record(measure(cell.experiment(shared), sweep.repeats))) + "\n"])
    return read_json(path)


def judge(sweep: Sweep, paths: Mapping[str, tuple[Mapping[str, Path], Sequence[int]]],
          noise: Mapping[str, Sequence[Mapping[str, float]]]) -> list[Found]:
    """What every cell says, and in the end the mean over those in which both signs gain Pass@1.

    Args: paths: {cell: its paths psr and nsr, and their ks}. noise: {cell: a record a seed}.
    """
    curves, found = {}, []
    for cell in sweep.cells:
        of, ks = paths[cell.name]
        curves[cell.name] = matched_curves(of["nsr"], of["psr"], sweep.resamples, seed=0)
        base = of["psr"].pass_at[:, 0].mean(axis=(0, 1))
        found.append(Found(cell, differences(curves[cell.name], ks, sweep.ks, sweep.margin),
                           (float(base[0]), float(base[-1])), (best_gain(of["psr"]), best_gain(of["nsr"])),
                           noise[cell.name]))
    together = differences(pooled(curves), ks, sweep.ks, sweep.margin)
    return [*found, Found(Cell(POOLED, POOLED), together, NOTHING, NOTHING, ())]


def map_rows(found: Sequence[Found]) -> list[list[str]]:
    """A head and a row a cell, in percent and points."""
    rows = [["cell", "base @1, @max", "gain PSR, NSR", *(f"k={each.k}" for each in found[0].differences), "verdict",
             "noise PSR, NSR", "cosine"]]
    for each in found:
        noise = [f"{each.mean(name):.3g}" for name in ("noise_psr", "noise_nsr")]
        known = [", ".join(map(percent, each.base)), ", ".join(map(points, each.gains)), ", ".join(noise),
                 f"{each.mean('cosine'):.2f}"] if each.noise else ["-"] * 4
        rows.append([each.cell.label, *known[:2], *_cells(each), *known[2:]])
    return rows


def _cells(found: Found) -> list[str]:
    """The differences with their intervals, and the verdict: one word where it is the same at every k."""
    verdicts = set(found.verdicts) if len(set(found.verdicts)) == 1 else found.verdicts
    return [*(f"{points(each.mean)} [{points(each.low)}, {points(each.high)}]" if np.isfinite(each.low) else "-"
              for each in found.differences), ", ".join(verdicts)]


def _conclude(out: FilePath, sweep: Sweep, found: Sequence[Found], note: str) -> str:
    """Writes the map's files; returns the text for the screen."""
    (out / "map.md").write_text(
        f"# NSR against PSR at matched Pass@1\n\n{note}\n\n{markdown_table(map_rows(found))}\n", encoding="utf-8")
    record = [{"cell": each.cell.name, "changes": dict(each.cell.changes), "base": each.base, "gains": each.gains,
               "noise": list(each.noise),
               "differences": [dataclasses.asdict(difference) | {"verdict": verdict} for difference, verdict
                               in zip(each.differences, each.verdicts, strict=True)]} for each in found]
    (out / "map.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    short = [["cell", *(f"k={each.k}" for each in found[0].differences), "verdict"],
             *([each.cell.name, *_cells(each)] for each in found)]
    map_picture([each.cell.label for each in found], [each.differences for each in found],
                [each.gains[::-1] for each in found],
                [(each.mean("noise_nsr"), each.mean("noise_psr")) for each in found], ("NSR", "PSR")).save(out)
    return f"{note}\n\n{plain(short)}\n\nmap: {out / 'map.md'}, map.svg, map.png"
