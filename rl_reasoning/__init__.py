"""Reinforcement learning with verifiable rewards on language models, in JAX."""

import contextlib
import ctypes
import os
import re
from collections.abc import Mapping, MutableMapping
from pathlib import Path

__version__ = "0.1.0"


def make_room_for_devices(environment: MutableMapping[str, str]) -> None:
    """Gives XLA two threads for each of several simulated CPU devices, where NPROC does not say how many.

    XLA makes as many threads as there are cores and, when its client is made, asks NPROC first. A device that waits for
    the others in a collective operation keeps its thread, and devices come to independent ones in any order: with fewer
    threads all can wait for one another, until XLA ends the process after 40 s.
    """
    flag = re.search(r"--xla_force_host_platform_device_count=(\d+)", environment.get("XLA_FLAGS", ""))
    said = environment.get("JAX_NUM_CPU_DEVICES") or (flag[1] if flag else "")
    if said.isdecimal() and int(said) > 1:
        environment.setdefault("NPROC", str(max(2 * int(said), os.cpu_count() or 1)))


# glibc's mallopt: parameters by number (malloc.h), and how each is set from outside.
KEEPING = ((-8, 1), (-4, 0), (-1, 2**31 - 1), (-2, 64 * 2**20))  # arenas, maps, what the top may have, its growth
ALLOCATORS = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
ACCELERATORS = ("accel*", "vfio/[0-9]*", "nvidia[0-9]*", "kfd")


def keep_freed_memory(environment: Mapping[str, str], devices: Path = Path("/dev")) -> bool:
    """Lets a process on the CPU backend use freed memory again, instead of getting it from the kernel anew; True if so.

    XLA allocates a program's temporaries at each call. glibc maps large ones and unmaps them when they are freed, so
    that each call pays for their pages again: a tenth of an update's time. What a process once had it then keeps.
    Does nothing where the environment chooses an allocator or sets it up, where JAX_PLATFORMS names another backend,
    where there is an accelerator, and without glibc.
    """
    chosen = any(name.startswith(ALLOCATORS) for name in environment)
    elsewhere = environment.get("JAX_PLATFORMS", "cpu") not in ("", "cpu")
    if chosen or elsewhere or any(next(devices.glob(kind), None) for kind in ACCELERATORS):
        return False
    with contextlib.suppress(OSError, AttributeError, TypeError):  # TypeError: Windows has no handle of the process.
        mallopt = ctypes.CDLL(None).mallopt
        return all(mallopt(parameter, value) for parameter, value in KEEPING)
    return False


make_room_for_devices(os.environ)
keep_freed_memory(os.environ)
