"""A folder belongs to one process at a time, and to nobody once that process is dead."""

import contextlib
import errno
import fcntl
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


class Claimed(RuntimeError):
    """Another living process writes there."""


@contextlib.contextmanager
def claim(file: Path, *, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Holds a lock file, which names who holds it. The operating system lets go of it when the process dies, however
    it dies, so there is nothing to clean up after a kill.

    Args: waiting: is told who holds the lock, once, and then the call waits; without it a held lock is an error.
    Raises Claimed when another process holds the lock and nobody waits. A file system without locks protects nothing.
    """
    with file.open("a+b") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = f"{file.parent} is in use by {_holder(handle)}"
            if waiting is None:
                raise Claimed(holder) from None
            waiting(holder)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {platform.node()}\n".encode())
        handle.flush()
        yield


def _holder(handle: BinaryIO) -> str:
    handle.seek(0)
    return handle.read(200).decode(errors="replace").strip() or "another process"
