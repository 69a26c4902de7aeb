"""One of two processes that work together over loopback; the scenario is named on the command line.

Exit code 3 and one line for a `HostsError`, as a trainer would end.
"""

import os
import sys
import time

import jax
import numpy as np

from rl_reasoning.parallel.hosts import Hosts, HostsError

SCENARIO, INDEX, PORT = sys.argv[1], int(sys.argv[2]), sys.argv[3]
SECONDS = 2.0


def asleep(hosts):
    """T49: process 1 never comes back from its rollout."""
    for step in (1, 2):
        hosts.at("rollout", step)
        if INDEX == 1 and step == 2:
            time.sleep(60)
        hosts.meet("update", step)


def other_settings(hosts):
    """T50."""
    hosts.agree({"rl.steps": 70 + 10 * INDEX, "seed": 0, "code": "abc"})


def nothing_scored(hosts):
    """T51: process 1 has only unscorable answers, and a NaN; both do the same number of collective operations."""
    mesh = jax.make_mesh((2,), ("data",))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    total = jax.jit(lambda rewards: (np.float32(0) + jax.numpy.nansum(rewards), jax.numpy.isfinite(rewards).sum()))
    collectives = 0
    for step in (1, 2, 3):
        own = np.full((1, 4), np.nan, np.float32) if INDEX == 1 and step == 2 else np.ones((1, 4), np.float32)
        scored = bool(np.isfinite(own).any())
        if not hosts.any(scored, "gathered", step):
            raise SystemExit(9)
        found, count = total(jax.make_array_from_process_local_data(spread, own))
        collectives += 1
        assert float(found) == int(count) == (4 if step == 2 else 8)
    assert set(hosts.meet("end", 3, collectives)) == {3}


def cleanup_fails(hosts):
    """T52: what process 0 alone does goes wrong, and process 1 is already waiting for it."""
    with hosts.announced("the save of step 1"):
        if INDEX == 0:
            raise OSError(28, "No space left on device")
        hosts.meet("saved", 1)


def replica_differs(hosts):
    """T53: one process's copy of one array is off by a bit from step 2 on."""
    mesh = jax.make_mesh((2,), ("data",))
    for step in (1, 2, 3):
        weights = np.arange(4, dtype=np.float32)
        if INDEX == 1 and step == 2:
            weights = np.nextafter(weights, np.float32(9))
        array = jax.make_array_from_single_device_arrays(
            (4,), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()),
            [jax.device_put(weights, jax.local_devices()[0])])
        hosts.same({"policy": {"norm": array, "step": jax.device_put(np.int32(step))}}, step)


def another_turn(hosts):
    """A process that skips a step is where the others are not."""
    hosts.meet("update", 1 + INDEX)


def main():
    jax.distributed.initialize(f"127.0.0.1:{PORT}", 2, INDEX)
    start, hosts = time.monotonic(), Hosts(seconds=SECONDS)
    try:
        globals()[SCENARIO](hosts)
    except (HostsError, OSError) as error:
        # Not sys.exit: jax would wait for the other process at its own barrier.
        sys.stdout.write(f"{time.monotonic() - start:.1f} {error}\n")
        sys.stdout.flush()
        sys.stderr.flush()
        hosts.leave()
        os._exit(3)
    sys.stdout.write("together\n")


if __name__ == "__main__":
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    main()
