"""Reinforcement learning with verifiable rewards on language models, in JAX."""

import os
import re
from collections.abc import MutableMapping

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


make_room_for_devices(os.environ)
