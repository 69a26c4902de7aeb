"""Which folder a run writes to: a new one, or that of an unfinished run which it goes on with."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path

from rl_reasoning.config import Experiment
from rl_reasoning.edge import ConfigError
from rl_reasoning.json_file import read_json
from rl_reasoning.loop import fingerprints
from rl_reasoning.reporting.claims import Claimed, claim
from rl_reasoning.reporting.console import say
from rl_reasoning.reporting.json_lines import write_whole
from rl_reasoning.reporting.run_folder import differing_settings, new_folder

CLAIM, STATUS = ".claim", "status.json"


@dataclasses.dataclass(frozen=True)
class Earlier:
    """What a folder says of the run that it belongs to. changed: the settings that are other ones now."""

    path: Path
    finished: bool
    changed: dict[str, list]


def work_folder(experiment: Experiment) -> Path:
    """The folder for all that the runs leave; it is made here, before anything is computed.

    Raises ConfigError when it cannot be made or written to.
    """
    path = Path(experiment.workdir).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"config.workdir = {experiment.workdir!r}: {error.strerror} ({error.filename}); name a "
                          "folder that you may write to, as in --config.workdir=/tmp/runs") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(f"config.workdir = {experiment.workdir!r}: you may not write to it; name another folder, as "
                          "in --config.workdir=/tmp/runs")
    return path


@contextlib.contextmanager
def opened(experiment: Experiment, name: str) -> Iterator[Path]:
    """The folder of a run, which no other process writes to meanwhile; status.json says how the run ends.

    Raises:
      ConfigError: resume=always, and there is no run to go on with, or it has other settings or another process.
    """
    with contextlib.ExitStack() as stack:
        path = None if experiment.resume == "never" else _unfinished(experiment, name, stack)
        if path is None:
            path = new_folder(experiment.workdir, name)
            stack.enter_context(claim(path / CLAIM))
            say(f"run folder: {path}")
        else:
            say(f"run folder: {path}, where a run of the same settings is unfinished")
        with status(path, experiment):
            yield path


@contextlib.contextmanager
def status(path: Path, experiment: Experiment) -> Iterator[None]:
    """Writes to the folder's status.json that the run goes on, and then that it finished or why it did not."""
    settings = fingerprints.settings(experiment)
    _write(path / STATUS, {"status": "running", "settings": settings})
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(OSError):  # the folder itself may be what is gone
            _write(path / STATUS, {"status": "stopped", "why": str(error) or type(error).__name__,
                                   "settings": settings})
        raise
    _write(path / STATUS, {"status": "finished", "settings": settings})


def is_finished(path: Path) -> bool:
    """Whether the run of a folder has done all its steps and evaluations."""
    return (path / STATUS).exists() and read_json(path / STATUS).get("status") == "finished"


def _unfinished(experiment: Experiment, name: str, stack: contextlib.ExitStack) -> Path | None:
    """The newest folder to go on in, claimed; None where a new one is to be made."""
    always = experiment.resume == "always"
    found = list(_earlier(experiment, name))
    if always and not found:
        raise ConfigError(f"config.resume = 'always': there is no run {name} in {experiment.workdir} to go on with")
    for run in found:
        if run.changed and not experiment.resume_changed:
            words = f"{run.path} has other settings: {fingerprints.words(run.changed)}"
            if always:
                raise ConfigError(f"config.resume = 'always': {words}. Give the same settings, or "
                                  "--config.resume_changed=True goes on with these and records it")
            if not run.finished:
                say(f"{words}; it is unfinished, and a new run begins beside it")
        elif always or not run.finished:
            try:
                stack.enter_context(claim(run.path / CLAIM))
            except Claimed as error:
                if always:
                    raise ConfigError(f"config.resume = 'always': {error}") from None
                say(f"{error}; a new run begins beside it")
                continue
            return run.path
        if always or experiment.resume_changed:
            break
    return None


def _earlier(experiment: Experiment, name: str) -> Iterator[Earlier]:
    """The runs of a name, newest first."""
    parent = Path(experiment.workdir)
    numbered = {1: parent / name}
    for path in parent.glob(f"{name}-*"):
        if (suffix := path.name.removeprefix(f"{name}-")).isdecimal():
            numbered[int(suffix)] = path
    for _, path in sorted(numbered.items(), reverse=True):
        if (path / STATUS).exists():
            known = read_json(path / STATUS)
            changed = differing_settings([known.get("settings", {}), fingerprints.settings(experiment)])
            yield Earlier(path, known.get("status") == "finished", changed)


def _write(path: Path, record: dict) -> None:
    write_whole(path, [json.dumps(record, indent=1) + "\n"])
