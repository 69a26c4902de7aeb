"""A side's process: asked for a step it answers, and its end is said, with its last words, and not waited for."""

import sys
from pathlib import Path

import pytest

from tests.scripts.loading import load

SCRIPT = """import json, sys
case = json.loads(sys.stdin.readline())
print(json.dumps({"compile": case["seconds"]}), flush=True)
for count, _ in enumerate(sys.stdin, 1):
    if count == 3:
        print("no memory", file=sys.stderr)
        sys.exit(7)
    print(json.dumps({"cpu": count, "wall": 2 * count}), flush=True)
"""


@pytest.fixture(name="peer")
def a_peer_of_two_steps(monkeypatch, tmp_path):
    start = load("bench_trainer", monkeypatch).TimedPeer.start
    script = tmp_path / "step.py"
    script.write_text(SCRIPT)
    peer = start("fake", Path(sys.executable), str(script), {"seconds": 1.5})
    yield peer
    peer.stop()


def test_each_step_is_asked_for(peer):
    assert peer.first == {"compile": 1.5}
    assert [peer.step() for _ in range(2)] == [{"cpu": 1, "wall": 2}, {"cpu": 2, "wall": 4}]
    assert {peer: "several peers are told apart"}[peer]


def test_a_peer_that_ended_is_an_error(peer):
    peer.step()
    peer.step()
    with pytest.raises(RuntimeError, match="fake's step ended with exit code 7\nno memory"):
        peer.step()
