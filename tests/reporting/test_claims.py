"""One process at a time writes to a folder, and a dead one holds nothing."""

import subprocess
import sys
import time

import pytest

from rl_reasoning.reporting.claims import Claimed, claim

HOLDER = """
import pathlib, sys, time
from rl_reasoning.reporting.claims import claim
with claim(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(name="holder")
def other_process(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path / ".claim"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_claim_of_a_living_process_is_refused_and_that_of_a_dead_one_taken_over(tmp_path, holder):
    with pytest.raises(Claimed, match=rf"is in use by process {holder.pid} on "), claim(tmp_path / ".claim"):
        pass
    holder.kill()
    holder.wait()
    with claim(tmp_path / ".claim"):
        pass


def test_who_may_wait_waits_and_is_told_for_whom(tmp_path, holder):
    told = []

    def ends(who):
        told.append(who)
        holder.kill()

    start = time.monotonic()
    with claim(tmp_path / ".claim", waiting=ends):
        assert time.monotonic() - start < 10
    assert str(holder.pid) in told[0]


def test_within_one_process_too(tmp_path):
    with claim(tmp_path / ".claim"), pytest.raises(Claimed), claim(tmp_path / ".claim"):
        pass
    with claim(tmp_path / ".claim"):
        pass
