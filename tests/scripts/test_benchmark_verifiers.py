"""scripts/benchmark_verifiers.py runs and prints figures that can be: the sizes are the smallest that it takes."""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent.parent


def start(*arguments):
    return subprocess.run([sys.executable, str(ROOT / "scripts" / "benchmark_verifiers.py"), *arguments], timeout=120,
                          env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)


def test_it_prints_every_figure():
    ended = start("--answers=100")
    assert ended.returncode == 0, ended.stderr
    ratio = float(re.search(r"ratio ([0-9.]+)", ended.stdout)[1])
    assert ratio > 1  # one answer of a hundred waits for its deadline
    assert float(re.search(r"replaced in ([0-9.]+) ms", ended.stdout)[1]) < 1000
    assert len(ended.stdout.splitlines()) == 5


def test_sizes_that_cannot_be_are_refused():
    ended = start("--answers=10")
    assert ended.returncode == 2
    assert "100 or more" in ended.stderr
