"""A peer's step in its own environment, timed when it is asked for."""

import dataclasses
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from peer_check.environments import PeerUnavailable, python_of


@dataclasses.dataclass(frozen=True, eq=False)
class TimedPeer:
    """One process that compiles once and does one more step a line of its input.

    Attributes: first: what it says of itself before the first step, {"compile": CPU seconds} among it.
    """

    name: str
    process: subprocess.Popen
    first: dict[str, float]

    @classmethod
    def start(cls, name: str, environment: str, script: str, case: dict[str, Any], folder: Path) -> "TimedPeer":
        """Compiles and warms up the peer's step.

        Args: environment: of `environments.REQUIREMENTS`. script: in this folder. case: what the script reads first.
            folder: of the environments.
        Raises: PeerUnavailable: it could not be installed, or ended.
        """
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(python_of(environment, folder)), str(Path(__file__).parent / script)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                   text=True, env=variables | {"JAX_PLATFORMS": "cpu"})
        return cls(name, process, cls(name, process, {}).ask(case))

    def step(self) -> dict[str, float]:
        """One more step: its "cpu" and "wall" seconds, and what else the script counts."""
        return self.ask({})

    def ask(self, what: dict[str, Any]) -> dict[str, float]:
        """The script's answer to a line. Raises PeerUnavailable when there is none."""
        try:
            self.process.stdin.write(json.dumps(what) + "\n")
            self.process.stdin.flush()
        except OSError:
            pass  # It has ended, which the empty answer says.
        answer = self.process.stdout.readline()
        if not answer:
            raise PeerUnavailable(f"{self.name}'s step ended with exit code {self.process.wait()}")
        return json.loads(answer)

    def stop(self) -> None:
        """Ends the process."""
        self.process.stdin.close()
        self.process.wait()
