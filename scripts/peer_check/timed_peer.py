"""A step in a process of its own, a peer's in its environment, timed when it is asked for."""

import dataclasses
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

from peer_check.environments import PeerUnavailable


@dataclasses.dataclass(frozen=True, eq=False)
class TimedPeer:
    """One process that compiles once and does one more step a line of its input.

    Attributes: first: what it says of itself before the first step, {"compile": CPU seconds} among it.
    """

    name: str
    process: subprocess.Popen
    complaints: IO[bytes]
    first: dict[str, Any]

    @classmethod
    def start(cls, name: str, python: Path, script: str, case: dict[str, Any], **variables: str) -> "TimedPeer":
        """Compiles and warms up the step.

        Args: python: of its environment. script: in this folder. case: what the script reads first. variables: of its
            environment, further ones.
        Raises: PeerUnavailable: it ended.
        """
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
        complaints = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process is asked)
        process = subprocess.Popen([str(python), str(Path(__file__).parent / script)], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=complaints, text=True, env=environment)
        return cls(name, process, complaints, cls(name, process, complaints, {}).ask(case))

    def step(self) -> dict[str, float]:
        """One more step: its "cpu" and "wall" seconds, and what else the script counts."""
        return self.ask({})

    def ask(self, what: dict[str, Any]) -> dict[str, Any]:
        """The script's answer to a line. Raises PeerUnavailable when there is none."""
        try:
            self.process.stdin.write(json.dumps(what) + "\n")
            self.process.stdin.flush()
        except OSError:
            pass  # It has ended, which the empty answer says.
        answer = self.process.stdout.readline()
        if not answer:
            code = self.process.wait()
            self.complaints.seek(0)
            words = self.complaints.read().decode(errors="replace").strip().splitlines()[-15:]
            raise PeerUnavailable("\n".join([f"{self.name}'s step ended with exit code {code}", *words]))
        return json.loads(answer)

    def stop(self) -> None:
        """Ends the process."""
        self.process.stdin.close()
        self.process.wait()
        self.complaints.close()
