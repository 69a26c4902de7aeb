"""The run folder: everything a run leaves behind, as text that people and programs can read.

    config.json                 {"config": {...}, "versions": {...}, "command": [...]}
    metrics.jsonl               one line a step: {"step": 3, "phase": "rl", "reward/mean": 0.31, ...}
    data.json                   rows used, skipped and repeated, and overlaps, where problems come from files
    timings.jsonl               one line a step: {"step": 3, "phase": "rl", "time/rollout": 0.2, ...}
    evaluations/summary.jsonl   one line an evaluation, see `RunFolder.write_evaluation`
    evaluations/<label>.jsonl   one line an answer
    latent_search.jsonl         a search at test time: one line a method; its answers are in latent_<method>.jsonl
    report.html, tensorboard/, checkpoints/

metrics.jsonl holds no clock reading, so the same seed gives the same bytes; clocks go to timings.jsonl. null in
metrics and timings is read back as NaN. A process may be killed at any byte, see `reporting.json_lines`.
"""

import dataclasses
import hashlib
import importlib.metadata
import itertools
import json
import math
import os
import pathlib
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rl_reasoning.reporting.json_lines import append, json_line, keep_lines, plain, read_lines, write_whole

PHASES = ("warm_start", "rl")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "ml_collections", "rl_reasoning")
_CLOCK_NAMES = ("time/", "tokens_per_second")


def installed_versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """The interpreter's version, and that of each package or "not installed"."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


class RunFolder:
    """One run's folder: appends lines, reads them back, never overwrites another run.

    Appending opens and closes the file each time: a line is with the operating system when the call
    returns, and no handle outlives it.
    """

    def __init__(self, path: str | os.PathLike):
        """Opens the folder `path`, making it if it is not there. `create` makes a new one."""
        self.path = pathlib.Path(path)
        (self.path / "evaluations").mkdir(parents=True, exist_ok=True)

    @classmethod
    def create(cls, parent: str | os.PathLike, name: str) -> "RunFolder":
        """Makes a new one, see `new_folder`."""
        return cls(new_folder(parent, name))

    @property
    def report_path(self) -> pathlib.Path:
        """The page that people read."""
        return self.path / "report.html"

    @property
    def tensorboard_path(self) -> pathlib.Path:
        """The folder of event files."""
        return self.path / "tensorboard"

    @property
    def checkpoints_path(self) -> pathlib.Path:
        """The folder of saved states."""
        return self.path / "checkpoints"

    def write_config(self, config: Any, command: Sequence[str], versions: Mapping[str, str] | None = None) -> None:
        """Writes config.json once; a resumed run, which must have the same settings, leaves it as it is.

        Args:
          config: a dataclass or a mapping, JSON-able. The environment is never read.
          command: the command line, one string a word.
          versions: package versions; the installed ones when left out.

        Raises:
          ValueError: the folder holds a run with other settings; the message names the first few.
        """
        values: Any = config
        if dataclasses.is_dataclass(config) and not isinstance(config, type):
            values = dataclasses.asdict(config)
        record = {
            "config": plain(values),
            "versions": dict(versions or installed_versions()),
            "command": list(command),
        }
        path = self.path / "config.json"
        if path.exists():
            changed = differing_settings([self.config()["config"], record["config"]])
            if changed:
                raise ValueError(
                    f"{self.path} holds a run with other settings ({', '.join(list(changed)[:5])}): "
                    "use another run folder, or the settings in its config.json"
                )
            return
        write_whole(path, [json.dumps(record, indent=2, allow_nan=False) + "\n"])

    def write_data(self, record: Mapping[str, Any]) -> None:
        """Writes data.json: what was found in the files that the problems come from."""
        write_whole(self.path / "data.json", [json.dumps(plain(record), indent=2, allow_nan=False) + "\n"])

    def write_lines(self, name: str, records: Iterable[Mapping[str, Any]]) -> None:
        """Writes <name>.jsonl, one line a record."""
        write_whole(self.path / f"{name}.jsonl", map(json_line, records))

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The records of <name>.jsonl in order."""
        return list(read_lines(self.path / f"{name}.jsonl"))

    def append_metrics(self, step: int, phase: str, values: Mapping[str, Any]) -> None:
        """Appends one line to metrics.jsonl; names in sorted order, so equal values give equal bytes.

        Raises:
          ValueError: unknown phase, a value that is no number, or a name for a clock reading.
        """
        clocks = [name for name in values if name.startswith(_CLOCK_NAMES)]
        if clocks:
            raise ValueError(
                f"{clocks[0]} depends on the clock and would make metrics.jsonl differ between equal runs: "
                "give it to append_timings"
            )
        append(self.path / "metrics.jsonl", _step_record(step, phase, values))

    def append_timings(self, step: int, phase: str, values: Mapping[str, Any]) -> None:
        """Appends one line to timings.jsonl: "time/..." in seconds, "tokens_per_second"."""
        append(self.path / "timings.jsonl", _step_record(step, phase, values))

    def write_evaluation(self, summary: Mapping[str, Any], samples: Iterable[Mapping[str, Any]]) -> None:
        """Writes evaluations/<label>.jsonl and this label's line of summary.jsonl.

        A second evaluation with the same label, as after a restart, takes the place of the first.

        Args:
          summary: {"label": "base" | "step_0070", "algorithm", "seed", "step", "problems": P, "samples": n,
            "pass_at_k": {"1": [mean, low, high], ...}, "right": [P], "total": [P], "entropy", "length",
            "format", "accuracy_given_format", "truncated", "unscorable"}, with the rest of
            `evaluation.summary.Tally.summary`, and where accuracy is broken down by facts of the problems each
            problem's values {"facts": {name: [P]}}. "problem_set" is added: a hash of the problems' ids in order,
            by which readers know that two evaluations can be paired.
          samples: one mapping an answer, problem by problem: {"problem", "sample", "prompt", "text", "answer",
            "outcome", "reward", "reason", "logprob", "length", "stop_reason": "eos" | "length"}, the first few of a
            problem with "tokens": [[text, log-probability, change from the base where known], ...].
        """
        problems: dict[str, None] = {}
        write_whole(self.samples_path(summary["label"]), _sample_lines(samples, problems))
        self.write_summary(summary, tuple(problems))

    def write_summary(self, summary: Mapping[str, Any], problems: Sequence[str]) -> None:
        """Writes an evaluation's line of summary.jsonl; its answers are in their file already.

        Args: summary: as in `write_evaluation`. problems: ids in order.
        """
        label = summary["label"]
        digest = hashlib.sha256("\n".join(problems).encode("utf-8", "surrogatepass")).hexdigest()[:16]
        kept = [record for record in read_lines(self._summary_path) if record["label"] != label]
        records = [*kept, {**summary, "problem_set": digest}]
        write_whole(self._summary_path, (json_line(record) for record in records))

    def rewind(self, phase: str, step: int) -> None:
        """Drops what was written after this step, for a run that goes on from a checkpoint of it.

        The steps that run again then append what an uninterrupted run would have written.
        """
        limit = (_phase_index(phase), step)
        for name in ("metrics.jsonl", "timings.jsonl"):
            keep_lines(self.path / name, lambda record: (_phase_index(record["phase"]), record["step"]) <= limit)
        last_evaluation = step if phase == "rl" else -1
        keep_lines(self._summary_path, lambda record: record["step"] <= last_evaluation)

    def config(self) -> dict[str, Any]:
        """config.json, or empty parts where the run has not written it yet."""
        path = self.path / "config.json"
        return json.loads(path.read_bytes()) if path.exists() else {"config": {}, "versions": {}, "command": []}

    def metrics(self, phase: str | None = None) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl in order, of one phase or of all; null becomes NaN."""
        return _step_records(self.path / "metrics.jsonl", phase)

    def timings(self, phase: str | None = None) -> list[dict[str, Any]]:
        """The lines of timings.jsonl in order, of one phase or of all."""
        return _step_records(self.path / "timings.jsonl", phase)

    def evaluations(self) -> list[dict[str, Any]]:
        """The lines of evaluations/summary.jsonl by step."""
        return sorted(read_lines(self._summary_path), key=lambda record: record["step"])

    def samples(self, label: str, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """The answers of one evaluation in order, at most `limit` of them; none when there is no such file."""
        return itertools.islice(read_lines(self.samples_path(label)), limit)

    def samples_path(self, label: str) -> pathlib.Path:
        """Where the answers of one evaluation lie.

        Raises:
          ValueError: `label` cannot name a file.
        """
        if not label or not all(mark.isalnum() or mark in "_-." for mark in label) or label == "summary":
            raise ValueError(f"{label!r} cannot name an evaluation: use letters, digits, '_', '-' and '.'")
        return self.path / "evaluations" / f"{label}.jsonl"

    @property
    def _summary_path(self) -> pathlib.Path:
        return self.path / "evaluations" / "summary.jsonl"


def new_folder(parent: str | os.PathLike, name: str) -> pathlib.Path:
    """Makes parent/name, or name-2, name-3, ... where that exists already.

    Raises:
      ValueError: `name` is empty or is not a plain folder name.
    """
    if name in ("", ".", "..") or any(mark in name for mark in "/\\\0"):
        raise ValueError(f"{name!r} cannot name a run folder: use letters, digits, '-', '_' and '.'")
    parent = pathlib.Path(parent)
    parent.mkdir(parents=True, exist_ok=True)
    path, number = parent / name, 1
    while not _made(path):
        number += 1
        path = parent / f"{name}-{number}"
    return path


def differing_settings(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """{"rl.steps": [70, 80], ...}: the settings that are not the same in all of these nested mappings."""
    flat = [flattened(config) for config in configs]
    names = sorted(set().union(*flat))
    columns = {name: [settings.get(name) for settings in flat] for name in names}
    return {name: values for name, values in columns.items() if any(value != values[0] for value in values)}


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, by dotted names."""
    flat = {}
    for name, value in config.items():
        flat.update(flattened(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value})
    return flat


def _made(path: pathlib.Path) -> bool:
    """Whether this call made the folder: of two processes that race for a name, one gets it."""
    try:
        path.mkdir()
    except FileExistsError:
        return False
    return True


def _phase_index(phase: str) -> int:
    if phase not in PHASES:
        raise ValueError(f"unknown phase {phase!r}; one of {', '.join(PHASES)}")
    return PHASES.index(phase)


def _step_record(step: int, phase: str, values: Mapping[str, Any]) -> dict[str, Any]:
    _phase_index(phase)
    reserved = {"step", "phase"} & set(values)
    if reserved:
        raise ValueError(f"a metric cannot be called {reserved.pop()!r}: each line has that name already")
    return {"step": int(step), "phase": phase, **{name: _number(name, values[name]) for name in sorted(values)}}


def _number(name: str, value: Any) -> int | float:
    if isinstance(value, str | None) or np.ndim(value) != 0:
        raise ValueError(f"{name} is {value!r}, but a metric must be one number")
    return int(value) if np.asarray(value).dtype.kind in "biu" else float(value)


def _step_records(path: pathlib.Path, phase: str | None) -> list[dict[str, Any]]:
    chosen = [record for record in read_lines(path) if phase is None or record["phase"] == phase]
    return [{name: math.nan if value is None else value for name, value in record.items()} for record in chosen]


def _sample_lines(samples: Iterable[Mapping[str, Any]], problems: dict[str, None]) -> Iterator[str]:
    """The lines of the samples; each new problem id is added to `problems` on the way."""
    for sample in samples:
        problems.setdefault(str(sample["problem"]))
        yield json_line(sample)
