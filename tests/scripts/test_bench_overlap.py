"""scripts/bench_overlap.py runs and prints figures that can be: the sizes are the smallest that it takes."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent


def start(*arguments):
    return subprocess.run([sys.executable, str(ROOT / "scripts" / "bench_overlap.py"), *arguments], timeout=400,
                          env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_rollout_that_is_waited_for_costs_less_when_the_trainer_works_meanwhile():
    ended = start("--steps=4", "--turns=1", "--wait=1.5")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])["stale"]
    assert found["0"]["waiting"] == 0 < found["1"]["waiting"]
    assert found["1"]["steps_per_minute"] > found["0"]["steps_per_minute"]


def test_sizes_that_cannot_be_are_refused():
    ended = start("--steps=1")
    assert ended.returncode == 2
    assert "--steps must be 2 or more" in ended.stderr
