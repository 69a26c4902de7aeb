"""The trainer's side of the pool: who works on what, until when, and what happens when a worker does not answer.

No threads and no signals: the caller's thread waits on sockets, so the pool works from any thread, in a notebook,
and in every process of a multi-host run, each of which has a pool of its own.
"""

import contextlib
import dataclasses
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rl_reasoning import config, tasks
from rl_reasoning.tasks import Task
from rl_reasoning.tasks.own import OwnVerifier
from rl_reasoning.tasks.pool import wire
from rl_reasoning.tasks.pool.processes import END, FORK, REPLY, REQUEST
from rl_reasoning.tasks.pool.verifier import Item
from rl_reasoning.types import Outcome, Verdict

AHEAD = 64  # answers a worker that are taken from a stream before the oldest has its verdict
MOST_WORKERS = 8  # unless the settings say more: verifying shares the machine with the trainer
LOAD_SECONDS = 60.0  # for importing the verifier
FORK_SECONDS = 5.0  # for one request to the template, which takes milliseconds
TRIES = 2

_MEBIBYTE = 1 << 20
_UNSCORABLE = float("nan")


class PoolError(RuntimeError):
    """The worker processes cannot be had: the verifier cannot be imported or sent, or processes cannot be started."""


@dataclasses.dataclass(eq=False)
class _Job:
    index: int
    item: Item
    tries: int = 0


@dataclasses.dataclass(eq=False)
class _Worker:
    pid: int
    connection: socket.socket
    received: bytearray = dataclasses.field(default_factory=bytearray)
    job: _Job | None = None
    deadline: float = 0.0


class VerifierPool:
    """Worker processes that score answers, each within a deadline.

    A worker that has not answered by the deadline is killed with all it started and replaced within milliseconds:
    TIMEOUT. A worker that dies or talks nonsense is replaced and its answer given to the new one, once, then CRASH.
    Both are unscorable; the other answers do not notice. Results are in order. Several threads may call; a batch has
    the workers to itself.

    Args:
      task: pickled once; only its `verify` runs in the workers, which never import jax.
      settings: number of workers, seconds an answer, memory, and perhaps another function than the task's own.
      facts: figures about the verifier that `counts` repeats.

    Raises:
      PoolError: the task cannot be pickled, or it or the function cannot be imported by a fresh process.
      ValueError: `settings.function` is not of the form module:function.
    """

    def __init__(self, task: Task, settings: config.Verifier, facts: Mapping[str, float] | None = None):
        function = OwnVerifier(settings.function) if settings.function else None
        self._hello = wire.pack((sys.path, _packed(task, function), settings.memory * _MEBIBYTE))
        self._seconds, self._size = settings.seconds, settings.workers or min(MOST_WORKERS, os.cpu_count() or 1)
        self._lock, self._owner, self._replaced = threading.Lock(), os.getpid(), 0
        self._facts = dict(facts or {})
        self._workers: list[_Worker] = []
        self._start_template()
        self._workers.extend(self._fork() for _ in range(self._size))

    def __enter__(self) -> "VerifierPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def verify_all(self, items: Iterable[Item]) -> list[Verdict]:
        """See `Verifier`. Raises PoolError when the pool is closed, or belongs to the process that forked this one."""
        return list(self.stream(items))

    def stream(self, items: Iterable[Item]) -> Iterator[Verdict]:
        """Verdicts in order, as they come; at most `AHEAD` items a worker are taken before the oldest is done."""
        with self._lock:
            if not self._workers or self._owner != os.getpid():
                raise PoolError("this pool is closed, or was made by the process that forked this one: make a new one")
            with _Batch(self, items) as batch:
                yield from batch.verdicts()

    def counts(self) -> dict[str, float]:
        """verifier/replaced: workers that had to be replaced since the start; and the facts."""
        return {"verifier/replaced": float(self._replaced), **self._facts}

    @property
    def processes(self) -> list[int]:
        """Process ids: the template's, then the workers'."""
        return [self._template.pid, *(worker.pid for worker in self._workers)] if self._workers else []

    def close(self) -> None:
        """Ends all processes and waits for the template, which reaps the others; a second call does nothing."""
        with self._lock:
            for worker in self._workers:
                worker.connection.close()
            self._workers.clear()
            self._finalizer()

    def _start_template(self) -> None:
        """Starts the process that imports the verifier and forks workers; see `processes.template`."""
        ours, theirs = socket.socketpair()
        # One thread each: a worker is one of many, and a process with threads cannot be forked safely.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1",
                                    "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        program = f"from rl_reasoning.tasks.pool import processes; processes.template({theirs.fileno()})"
        with theirs:
            self._template = subprocess.Popen(
                [sys.executable, "-c", program], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], env=environment, start_new_session=True)
        self._control = ours
        self._finalizer = weakref.finalize(self, _end_template, ours, self._template)
        ours.settimeout(LOAD_SECONDS)
        try:
            wire.send(ours, self._hello)
            complaint = wire.receive(ours)
        except OSError as error:
            complaint = f"{type(error).__name__} while it was loaded: {error}".encode()
        if complaint != b"":
            self._finalizer()
            said = (complaint or b"it died while importing").decode(errors="replace")
            where = f"; modules are looked for in {os.getcwd()} and on PYTHONPATH" if "ModuleNotFound" in said else ""
            raise PoolError(f"a verifier process could not load the verifier: {said}{where}")
        ours.settimeout(FORK_SECONDS)

    def _request(self, kind: bytes, pid: int, descriptors: Sequence[int] = ()) -> int:
        socket.send_fds(self._control, [REQUEST.pack(kind, pid)], descriptors)
        reply = self._control.recv(REPLY.size, socket.MSG_WAITALL)
        if len(reply) < REPLY.size:
            raise ConnectionResetError("the template has died")
        return REPLY.unpack(reply)[0]

    def _fork(self) -> _Worker:
        """A fresh worker; a template that died or hangs is replaced once.

        Raises:
          PoolError: no worker can be had.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                pid = self._request(FORK, 0, [theirs.fileno()])
            except OSError:
                self._finalizer()
                self._start_template()
                try:
                    pid = self._request(FORK, 0, [theirs.fileno()])
                except OSError as error:
                    raise PoolError(f"no verifier process can be started: {error}") from error
        ours.settimeout(self._seconds)
        return _Worker(pid, ours)

    def replace(self, worker: _Worker) -> _Worker:
        """Kills a worker with all it started and puts a fresh one in its place."""
        worker.connection.close()
        self._replaced += 1
        # A template that is gone has taken its workers along.
        with contextlib.suppress(OSError):
            self._request(END, worker.pid)
        fresh = self._fork()
        self._workers[self._workers.index(worker)] = fresh
        return fresh

    @property
    def workers(self) -> Sequence[_Worker]:
        """The workers as they are now."""
        return self._workers

    @property
    def seconds(self) -> float:
        """Wall seconds that an answer may take."""
        return self._seconds


class _Batch:
    """One pass over a stream of items. Leaves every worker idle, whatever happens."""

    def __init__(self, pool: VerifierPool, items: Iterable[Item]):
        self._pool, self._source = pool, enumerate(items)
        self._done: dict[int, Verdict] = {}
        self._taken = self._given = 0
        self._more = True

    def __enter__(self) -> "_Batch":
        self._selector = selectors.DefaultSelector()
        for worker in self._pool.workers:
            self._selector.register(worker.connection, selectors.EVENT_READ, worker)
        for key, _ in self._selector.select(0.0):
            self._read(key.data)  # nothing was asked yet: it died since the last batch
        return self

    def __exit__(self, *_: object) -> None:
        for worker in [worker for worker in self._pool.workers if worker.job]:
            self._replace(worker)  # the caller went away in the middle: its answers are dropped
        self._selector.close()

    def verdicts(self) -> Iterator[Verdict]:
        while self._hand_out():
            self._collect()
            while self._given in self._done:
                yield self._done.pop(self._given)
                self._given += 1

    def _hand_out(self) -> bool:
        """Gives each idle worker a job; False when there is nothing left to do or to wait for."""
        for worker in list(self._pool.workers):
            if worker.job is None and (job := self._next_job()):
                self._assign(worker, job)
        return any(worker.job for worker in self._pool.workers) or bool(self._done)

    def _next_job(self) -> _Job | None:
        if not self._more or self._taken - self._given >= AHEAD * len(self._pool.workers):
            return None
        for index, item in self._source:
            self._taken += 1
            return _Job(index, item)
        self._more = False
        return None

    def _assign(self, worker: _Worker, job: _Job) -> None:
        try:
            payload = wire.pack(job.item)
        except Exception as error:
            self._done[job.index] = tasks.crashed(error)
            return
        worker.job, worker.deadline = job, time.monotonic() + self._pool.seconds
        try:
            wire.send(worker.connection, payload)
        except OSError as error:
            self._lost(worker, f"took no work: {error}")

    def _collect(self) -> None:
        """Waits until a worker says something or its time is up, and deals with it."""
        busy = [worker for worker in self._pool.workers if worker.job]
        if not busy:
            return
        wait = min(worker.deadline for worker in busy) - time.monotonic()
        for key, _ in self._selector.select(max(0.0, wait)):
            self._read(key.data)
        now = time.monotonic()
        for worker in busy:
            if worker.job and worker.deadline <= now:
                self._done[worker.job.index] = Verdict(
                    Outcome.TIMEOUT, _UNSCORABLE, None, f"no verdict within {self._pool.seconds:g} s")
                self._replace(worker)

    def _read(self, worker: _Worker) -> None:
        try:
            part = worker.connection.recv(1 << 16)
            worker.received += part
            frame = wire.take_frame(worker.received) if part else None
            verdict = wire.decode_verdict(frame) if frame is not None else None
        except (OSError, wire.Garbage) as error:
            self._lost(worker, f"talked nonsense: {error}")
            return
        if not part:
            self._lost(worker, "died or ran out of memory")
        elif verdict and worker.job:
            self._done[worker.job.index], worker.job = verdict, None
        elif verdict:
            self._lost(worker, "spoke without being asked")

    def _lost(self, worker: _Worker, what: str) -> None:
        """Replaces a worker that failed; its job is tried again, or given up when that was done before.

        The new worker tries it: what ended one, such as memory that earlier answers kept, may be about to end others.
        """
        job = worker.job
        fresh = self._replace(worker)
        if job is None:
            return
        job.tries += 1
        if job.tries < TRIES:
            self._assign(fresh, job)
        else:
            self._done[job.index] = Verdict(Outcome.CRASH, _UNSCORABLE, None,
                                            f"the verifier's process {what}, {TRIES} times")

    def _replace(self, worker: _Worker) -> _Worker:
        worker.job = None
        self._selector.unregister(worker.connection)
        fresh = self._pool.replace(worker)
        self._selector.register(fresh.connection, selectors.EVENT_READ, fresh)
        return fresh


def _packed(task: Task, function: OwnVerifier | None) -> bytes:
    """What a worker needs of the task, as bytes: nothing of it when another function verifies."""
    try:
        return wire.pack((None, function) if function else (task, None))
    except Exception as error:
        raise PoolError(f"the task {task.name!r} cannot be sent to verifier processes ({error}): define its class at "
                        "the top of a module, or set in_process = True when its verify takes microseconds") from error


def _end_template(control: socket.socket, process: subprocess.Popen) -> None:
    """Closing the socket asks the template to end; it is killed when it does not."""
    control.close()
    try:
        process.wait(FORK_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
