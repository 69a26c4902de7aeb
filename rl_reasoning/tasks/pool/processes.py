"""What runs in the pool's processes: one template, and the workers that it forks.

The template imports the verifier once, without jax and without threads, and then forks a ready worker in
milliseconds whenever the pool asks. It holds the workers' lives: it kills them by process group, reaps them,
adopts and kills what they leave behind, and ends with all of them when the trainer is gone.
"""

import ctypes
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path

from rl_reasoning.tasks import Verify, crashed
from rl_reasoning.tasks.pool import wire

FORK, END = b"f", b"e"
REQUEST, REPLY = struct.Struct("!cI"), struct.Struct("!I")

_PARENT_DEATH_SIGNAL, _CHILD_SUBREAPER = 1, 36  # options of prctl(2)
_LOOK_AROUND = 0.2  # seconds between two looks for strays and for a trainer that is gone
_END_WITHIN = 1.0  # seconds that a killed process may take to vanish


def template(descriptor: int) -> None:
    """The template's whole life: load the verifier, say so, serve requests until the trainer closes or dies.

    Args:
      descriptor: of the Unix socket to the trainer.
    """
    trainer, control = os.getppid(), socket.socket(fileno=descriptor)
    _prctl(_CHILD_SUBREAPER, 1)
    verify, memory = _load(control)
    workers: set[int] = set()
    while os.getppid() == trainer:
        ready, _, _ = select.select([control], [], [], _LOOK_AROUND)
        if ready and not _serve(control, workers, verify, memory):
            break
        _end_strays(workers)
    for pid in list(workers):
        _end(pid, workers)
    _end_strays(workers)


def _load(control: socket.socket) -> tuple[Verify, int]:
    """The verifier that the first frame names, and the bytes that a worker may add; ends when it cannot be had."""
    frame = wire.receive(control)
    if frame is None:
        sys.exit(0)
    try:
        sys.path[:], packed, memory = wire.unpack(frame)
        task, function = wire.unpack(packed)
        verify = function.load() if function else task.verify
    except Exception as error:
        wire.send(control, f"{type(error).__name__}: {error}".encode())
        sys.exit(1)
    wire.send(control, b"")
    return verify, memory


def _serve(control: socket.socket, workers: set[int], verify: Verify, memory: int) -> bool:
    """Answers one request with a process id; False when the trainer has closed."""
    message, descriptors, _, _ = socket.recv_fds(control, REQUEST.size, 1)
    if len(message) < REQUEST.size:
        return False
    kind, pid = REQUEST.unpack(message)
    if kind == FORK:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            control.close()
            _work(socket.socket(fileno=descriptors[0]), verify, memory, parent)
        os.close(descriptors[0])
        workers.add(pid)
    else:
        _end(pid, workers)
    control.sendall(REPLY.pack(pid))
    return True


def _work(connection: socket.socket, verify: Verify, memory: int, parent: int) -> None:
    """A worker's whole life: verdicts on what arrives, one after another, until the pool closes; never returns."""
    try:
        _settle(memory, parent)
        while (frame := wire.receive(connection)) is not None:
            wire.send(connection, _judge(verify, frame))
    except (OSError, MemoryError):
        os._exit(1)  # the pool sees the closed socket, and gives the answer to a fresh worker
    finally:
        os._exit(0)  # nothing of the template's that is registered to run at exit may run here


def _settle(memory: int, parent: int) -> None:
    """Makes the forked process one that cannot outlive its template, write to its terminal, or eat the machine."""
    os.setsid()
    _prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died before the signal was asked for
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    limit = _address_space() + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _judge(verify: Verify, frame: bytes) -> bytes:
    """The verdict as it travels. Raises MemoryError: earlier answers may have used the memory up."""
    try:
        return wire.encode_verdict(verify(*wire.unpack(frame)))
    except MemoryError:
        raise
    except Exception as error:
        return wire.encode_verdict(crashed(error))


def _end(pid: int, workers: set[int]) -> None:
    """Kills a worker with its process group and reaps it."""
    if pid not in workers:
        return
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it died by itself, and what is left of it is reaped below
    give_up = time.monotonic() + _END_WITHIN
    while os.waitpid(pid, os.WNOHANG) == (0, 0) and time.monotonic() < give_up:
        time.sleep(0.001)
    workers.discard(pid)


def _end_strays(workers: set[int]) -> None:
    """Kills and reaps children that are no workers: processes that a worker or its children left behind."""
    me = os.getpid()
    children = Path(f"/proc/{me}/task/{me}/children")
    if not children.exists():
        return
    for pid in set(map(int, children.read_text().split())) - workers:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, os.WNOHANG)


def _address_space() -> int:
    """Bytes of address space that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _prctl(option: int, value: int) -> None:
    """prctl(2); raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value})")
