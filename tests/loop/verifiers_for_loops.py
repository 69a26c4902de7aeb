"""Verifiers for tests of the loop, found by worker processes under their names."""


def hang_on_left(problem, text):
    """Hangs on one arm of the bandit, so that about a third of the answers have no verdict."""
    while text.startswith("left"):
        pass
    return float(text.startswith("right"))


def broken(problem, text):
    raise ImportError("no grader")
