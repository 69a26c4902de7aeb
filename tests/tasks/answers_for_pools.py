"""Verifiers for tests of the pool: what they do depends on the answer's text, so that a text can be a fault."""

import os
import signal
import subprocess
import sys
import time

from rl_reasoning.types import Outcome, Verdict

LEAK, SERVED = [], []


def score(problem, text):
    """A reward of 1 for a harmless text; a fault for the name of one."""
    SERVED.append(text)
    FAULTS.get(text.split(" ")[0], lambda rest: None)(text.partition(" ")[2])
    return Verdict(Outcome.RIGHT, 1.0, text, f"by {os.getpid()}")


def hang(rest):
    while True:
        pass


def hang_deaf(rest):
    """Neither a signal that can be caught nor an exception reaches it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, set(range(1, signal.NSIG)) - {signal.SIGKILL})
    while True:
        pass


def die(rest):
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(path):
    if not os.path.exists(path):
        open(path, "w").close()
        die("")


def die_unless_new(rest):
    """As of a worker whose memory earlier answers have filled."""
    if len(SERVED) > 1:
        time.sleep(0.2)
        die("")


def garbage(rest):
    """Writes nonsense to every descriptor, the pool's socket among them."""
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b"\0\0\0\0\0\0\0\4true" if rest else b"\xff" * 64)
        except OSError:
            continue
    time.sleep(30)


def leak(rest):
    """Keeps 30 MB of every answer."""
    LEAK.append(bytearray(30 << 20))


def leave_children(path):
    """Starts a process in a session of its own, notes its id, and hangs."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    with open(path, "w") as file:
        file.write(str(child.pid))
    hang("")


def wrong_kind(rest):
    raise KeyError("no grader")


FAULTS = {
    "hang": hang, "hang_deaf": hang_deaf, "sleep": lambda rest: time.sleep(float(rest)), "die": die,
    "die_once": die_once, "die_unless_new": die_unless_new, "exit": lambda rest: sys.exit(0),
    "os_exit": lambda rest: os._exit(0), "garbage": garbage,
    "leak": leak, "memory": lambda rest: bytearray(10**11), "raise": wrong_kind,
    "regex": lambda rest: __import__("re").match("(a+)+$", "a" * 40 + "b"), "power": lambda rest: 9 ** 9 ** 9,
    "digits": lambda rest: int("9" * 10**6), "recursion": lambda rest: score(None, "recursion"),
    "children": leave_children, "print": lambda rest: sys.stdout.write("x" * 10**6),
    "stop": lambda rest: os.kill(os.getpid(), signal.SIGSTOP), "jax": lambda rest: sys.modules["jax"],
}
