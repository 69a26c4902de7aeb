"""Which cores a process may use: fewer than there are, so that other work on the machine disturbs it least."""

import os


def add_option(parser):
    """--cores for a benchmark of several sides that take turns."""
    parser.add_argument("--cores", type=int, default=1, help="that each side may use (default 1: figures that other "
                        "work on the machine disturbs least)")


def pin(count):
    """Keeps this process and what it starts on the last so many of its cores; without a word where a system cannot.

    Raises: ValueError: there are not so many.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    there = sorted(os.sched_getaffinity(0))
    if not 1 <= count <= len(there):
        raise ValueError(f"--cores={count}: must be 1 to {len(there)}, as many as this process may use")
    os.sched_setaffinity(0, there[-count:])


def keep_to(count, parser):
    """`pin`, where a number that cannot be is an error of the command line."""
    try:
        pin(count)
    except ValueError as error:
        parser.error(str(error))


def words(count):
    """How many a side uses, of how many, and what else is at work on them."""
    return f"{count} of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
