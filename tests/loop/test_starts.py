"""What a second start finds: the same programs, all of them compiled."""

import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent


def started(cache, seed):
    """(digests of the update's program, found compiled, compiled) of one process."""
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONHASHSEED": seed,
                                "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)])}
    ended = subprocess.run([sys.executable, str(HERE / "start_program.py")], env=environment, capture_output=True,
                           text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    *digests, hits, misses = ended.stdout.split()
    return digests, int(hits), int(misses)


@pytest.mark.slow
def test_t56_t57_a_second_process_builds_the_same_step_and_compiles_nothing(tmp_path):
    """The update's program is the same text however often and wherever it is built, under another hash seed too."""
    first, before, compiled = started(tmp_path, "1")
    second, found, compiled_again = started(tmp_path, "2")
    assert len({*first, *second}) == 1
    assert compiled > 20
    assert (found, compiled_again) == (before + compiled, 0)
