"""A jailed process that runs programs, seen from outside: start it, ask it, end it.

`jail.py` says what the isolation levels take away. What a sandbox says is a claim of the program inside.
"""

import contextlib
import functools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LEVELS = ("none", "landlock", "namespace")  # weakest first

_JAIL = str(Path(__file__).with_name("jail.py"))
_LONGEST_REPLY = 1 << 20  # bytes of one line
_FIRST_USER = 200_000  # root turns into one user a sandbox, so that one cannot touch or crowd out another


class SandboxError(RuntimeError):
    """The sandbox cannot be had, or died."""


class SandboxTimeout(SandboxError):
    """The sandbox did not answer in time."""


class SandboxGarbage(SandboxError):
    """The sandbox did not speak its protocol, which only the program inside can have brought about."""


class Sandbox:
    """One jailed process; use it in a `with` block, which leaves nothing of it behind.

    Args:
      level: one of `LEVELS`.
      cpu: processor seconds that a request may use.
      memory: bytes that each process inside may allocate.
      deadline: time.monotonic() at which everything must be over.

    Raises:
      SandboxError: no process can be started.
    """

    def __init__(self, level: str, cpu: float, memory: int, deadline: float):
        self._deadline, self._received = deadline, bytearray()
        self._scratch = None if level == "namespace" else tempfile.mkdtemp(prefix="sandbox-")
        if self._scratch:
            os.chmod(self._scratch, 0o777)
        limits = {"cpu": cpu, "memory": memory, "scratch": self._scratch, "uid": _FIRST_USER + os.getpid() % 100_000}
        command = [getattr(sys, "_base_executable", sys.executable), "-s", "-S", "-P", "-B", _JAIL, level,
                   json.dumps(limits)]
        environment = {"PYTHONHASHSEED": "0", "PYTHONIOENCODING": "utf-8:replace", "LC_ALL": "C.UTF-8"}
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, cwd="/",
                                             stderr=subprocess.DEVNULL, env=environment, start_new_session=True)
        except OSError as error:
            raise SandboxError(f"no sandbox can be started: {error}") from error

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(1.0)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def send(self, message: Mapping[str, Any]) -> None:
        """Writes one request. Raises SandboxError, and SandboxTimeout when the other side does not read."""
        data = memoryview(json.dumps(message).encode() + b"\n")
        pipe = self._process.stdin.fileno()
        os.set_blocking(pipe, False)
        while data:
            _, ready, _ = select.select([], [pipe], [], self._left())
            if not ready:
                raise SandboxTimeout("took no request in time")
            try:
                data = data[os.write(pipe, data):]
            except OSError as error:
                raise SandboxError(f"the sandbox has ended ({error})") from error

    def receive(self) -> dict[str, Any]:
        """The next reply. Raises SandboxTimeout, SandboxGarbage, and SandboxError when it has ended."""
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._received:
            ready, _, _ = select.select([pipe], [], [], self._left())
            part = os.read(pipe, 1 << 16) if ready else None
            if not ready:
                raise SandboxTimeout("no answer in time")
            if not part:
                raise SandboxError("the sandbox has ended")
            if len(self._received) > _LONGEST_REPLY:
                raise SandboxGarbage("a reply without an end")
            self._received += part
        line, _, rest = self._received.partition(b"\n")
        self._received = rest
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SandboxGarbage(f"a reply that is no JSON: {bytes(line[:80])!r}") from error
        if not isinstance(reply, dict):
            raise SandboxGarbage(f"a reply that is no object: {bytes(line[:80])!r}")
        if "fault" in reply:
            raise SandboxError(str(reply["fault"])[:300])
        return reply

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """`send`, then `receive`."""
        self.send(message)
        return self.receive()

    def _left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())


@functools.cache
def reach(weakest: str) -> str:
    """The strongest isolation level that works on this machine, found by running a program in it.

    Raises:
      SandboxError: it is weaker than `weakest`; the message says what failed at each level and how to allow less.
    """
    failed = []
    for level in reversed(LEVELS[LEVELS.index(weakest):]):
        try:
            with Sandbox(level, 5.0, 256 << 20, time.monotonic() + 20) as sandbox:
                sandbox.send({"program": "import decimal\nprint(decimal.Decimal(6) * 7)"})
                reply = sandbox.ask({"run": "", "cpu": 5.0})
            if reply["stdout"] == "42\n":
                return level
            failed.append(f"{level}: {reply['error']}")
        except SandboxError as error:
            failed.append(str(error))
    raise SandboxError(f"no isolation of level {weakest!r} or better works on this machine ({'; '.join(failed)}): run "
                       "where user name spaces or Landlock are allowed, or accept less with task.code.isolation; with "
                       "none a policy's programs can read and write what you can")
