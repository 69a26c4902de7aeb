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
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

LEVELS = ("none", "landlock", "namespace")  # weakest first

_JAIL = str(Path(__file__).with_name("jail.py"))
_LONGEST_REPLY = 1 << 20  # bytes of one line
_HELPER_SECONDS = 10.0  # for the helper's start and one fork


class SandboxError(RuntimeError):
    """The sandbox cannot be had, or died."""


class SandboxTimeout(SandboxError):
    """The sandbox did not answer in time."""


class SandboxGarbage(SandboxError):
    """The sandbox did not speak its protocol, which only the program inside can have brought about."""


class Sandboxes:
    """Starts sandboxes: a helper process that has what they need loaded forks one in milliseconds.

    The helper starts with the first sandbox and ends when this object or its process goes away. Not for several
    threads at once.
    """

    def __init__(self) -> None:
        self._control: socket.socket | None = None
        self._finalizer: Callable[[], object] = lambda: None

    def open(self, level: str, cpu: float, memory: int, deadline: float) -> "Sandbox":
        """A new sandbox, to be used in a `with` block.

        Args:
          level: one of `LEVELS`.
          cpu: processor seconds that a request may use.
          memory: bytes that each process inside may allocate.
          deadline: time.monotonic() at which everything must be over.

        Raises:
          SandboxError: no process can be started.
        """
        scratch = None if level == "namespace" else tempfile.mkdtemp(prefix="sandbox-")
        if scratch:
            os.chmod(scratch, 0o777)
        packet = json.dumps({"level": level, "cpu": cpu, "memory": memory, "scratch": scratch}).encode()
        pipes = [os.pipe() for _ in range(3)]
        (their_requests, requests), (replies, their_replies), (gone, their_life) = pipes
        theirs = (their_requests, their_replies, their_life)
        try:
            pid = self._start(packet, theirs)
        except OSError as error:
            for descriptor in (requests, replies, gone):
                os.close(descriptor)
            raise SandboxError(f"no sandbox can be started: {error}") from error
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        return Sandbox(pid, requests, replies, gone, deadline, scratch)

    def _start(self, packet: bytes, descriptors: Sequence[int]) -> int:
        """The process id of a new sandbox; a helper that is gone is replaced once."""
        if self._control:
            try:
                return _request(self._control, packet, descriptors)
            except OSError:
                self._finalizer()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(_HELPER_SECONDS)
        command = [getattr(sys, "_base_executable", sys.executable), "-s", "-S", "-P", "-B", _JAIL]
        environment = {"PYTHONHASHSEED": "0", "PYTHONIOENCODING": "utf-8:replace", "LC_ALL": "C.UTF-8"}
        with theirs:
            process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, cwd="/", env=environment, start_new_session=True)
        self._finalizer = weakref.finalize(self, _end_helper, self._control, process)
        return _request(self._control, packet, descriptors)


def _request(control: socket.socket, packet: bytes, descriptors: Sequence[int]) -> int:
    socket.send_fds(control, [packet], descriptors)
    reply = control.recv(64)
    if not reply:
        raise ConnectionResetError("the process that starts sandboxes has died")
    return int(reply)


def _end_helper(control: socket.socket, process: subprocess.Popen) -> None:
    control.close()
    process.kill()
    process.wait()


class Sandbox:
    """One jailed process; leaving its `with` block leaves nothing of it behind."""

    def __init__(self, pid: int, requests: int, replies: int, gone: int, deadline: float, scratch: str | None):
        self._pid, self._requests, self._replies, self._gone = pid, requests, replies, gone
        self._deadline, self._scratch, self._received = deadline, scratch, bytearray()
        os.set_blocking(requests, False)

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._requests)
        os.close(self._replies)
        for end, number in ((os.kill, signal.SIGTERM), (os.killpg, signal.SIGKILL)):
            if select.select([self._gone], [], [], 0.0)[0]:
                break  # closed: every process that held it is gone
            with contextlib.suppress(ProcessLookupError):
                end(self._pid, number)
            select.select([self._gone], [], [], 1.0)
        os.close(self._gone)
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def send(self, message: Mapping[str, Any]) -> None:
        """Writes one request. Raises SandboxError, and SandboxTimeout when the other side does not read."""
        data = memoryview(json.dumps(message).encode() + b"\n")
        while data:
            _, ready, _ = select.select([], [self._requests], [], self._left())
            if not ready:
                raise SandboxTimeout("took no request in time")
            try:
                data = data[os.write(self._requests, data):]
            except OSError as error:
                raise SandboxError(f"the sandbox has ended ({error})") from error

    def receive(self) -> dict[str, Any]:
        """The next reply. Raises SandboxTimeout, SandboxGarbage, and SandboxError when it has ended."""
        while b"\n" not in self._received:
            ready, _, _ = select.select([self._replies], [], [], self._left())
            part = os.read(self._replies, 1 << 16) if ready else None
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
    failed, sandboxes = [], Sandboxes()
    for level in reversed(LEVELS[LEVELS.index(weakest):]):
        try:
            with sandboxes.open(level, 5.0, 256 << 20, time.monotonic() + 20) as sandbox:
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
