"""What it takes to run on several processes of one job: one writes and speaks, all do their share and do the same."""

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rl_reasoning.config import Experiment
from rl_reasoning.loop.fingerprints import surroundings
from rl_reasoning.loop.setup import Lab
from rl_reasoning.parallel.hosts import Alone, Hosts
from rl_reasoning.reporting.run_folder import flattened

OWN = ("workdir", "wandb", "distributed")  # settings that processes need not share


@contextlib.contextmanager
def own_place(experiment: Experiment, hosts: Hosts | Alone) -> Iterator[Experiment]:
    """The settings under which this process works: process 0 has the run's folder, and the others a scratch one of
    their own and no console, so that nobody writes or says anything twice."""
    if hosts.is_first:
        yield experiment
        return
    with tempfile.TemporaryDirectory(prefix="rl_reasoning-") as place, Path(os.devnull).open("w") as nowhere, \
            contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield dataclasses.replace(experiment, workdir=place, wandb="", resume="never", resume_changed=False)


def agree(lab: Lab) -> None:
    """Raises Different when processes have other settings or `fingerprints.surroundings` (T50)."""
    if lab.hosts.count == 1:
        return
    settings = {name: value for name, value in dataclasses.asdict(lab.experiment).items()
                if name not in (*OWN, "resume", "resume_changed")}
    lab.hosts.agree({**flattened(json.loads(json.dumps(settings))), **surroundings(lab)})
