"""A process that runs workloads when it is told to, for scripts/bench_sampler.py; runs in peers' environments too.

Lines of JSON come in on stdin and go out on stdout; what a library prints goes to stderr.
"""

import json
import os
import sys
import time

import cores


def serve(make):
    """Answers workloads until stdin ends, on as many cores as the command line says.

    Args:
      make: (folder of the model, precision, the workload) -> a function without arguments that samples its answers
        and returns how many tokens they have.
    """
    samples = {}
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if sys.argv[1:]:
        cores.pin(int(sys.argv[1]))
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "prepare":
            sample = samples[order["part"]] = make(order["folder"], order["precision"], order["workload"])
            start = forget_peak()
            first = measure(sample)
            found = {"first": first, "peak_mb": peak() - start}
        else:
            found = measure(samples[order["part"]])
        answers.write(json.dumps(found) + "\n")
        answers.flush()


def measure(sample):
    """Processor and wall seconds of one call, and its tokens."""
    processor, wall = time.process_time(), time.perf_counter()
    tokens = sample()
    return {"tokens": tokens, "cpu_s": time.process_time() - processor, "wall_s": time.perf_counter() - wall}


def forget_peak():
    """Starts the kernel's record of the most memory anew; returns the megabytes in use."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _status("VmRSS")


def peak():
    """Most megabytes in use since then."""
    return _status("VmHWM")


def _status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(name + ":"))
