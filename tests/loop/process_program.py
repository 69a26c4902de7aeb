"""experiments/run.py with a fault in it: `process_program.py FAULT [the command's arguments]`."""

import os
import signal
import sys

from experiments import run
from rl_reasoning.loop import reinforce


def before(owner, name, step, what):
    """Does something when a function of the loop is about to begin this step."""
    original, calls = getattr(owner, name), []

    def passing(*args, **kwargs):
        calls.append(name)
        if len(calls) == step:
            what()
        return original(*args, **kwargs)

    setattr(owner, name, passing)


FAULTS = {
    "none": lambda: None,
    "signalled": lambda: before(reinforce, "gather", 2, lambda: os.kill(os.getpid(), signal.SIGTERM)),
    "killed": lambda: before(reinforce, "_learn", 2, lambda: os.kill(os.getpid(), signal.SIGKILL)),
}

if __name__ == "__main__":
    FAULTS[sys.argv[1]]()
    sys.exit(run.main(["run.py", *sys.argv[2:]]))
