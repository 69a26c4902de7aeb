"""A peer's process: asked for a step it answers, and its end is said and not waited for."""

import sys

import pytest

from tests.scripts.loading import load

SCRIPT = """import json, sys
case = json.loads(sys.stdin.readline())
print(json.dumps({"compile": case["seconds"]}), flush=True)
for count, _ in enumerate(sys.stdin, 1):
    if count == 3:
        sys.exit(7)
    print(json.dumps({"cpu": count, "wall": 2 * count}), flush=True)
"""


@pytest.fixture(name="peer")
def a_peer_of_two_steps(monkeypatch, tmp_path):
    module = load("bench_trainer", monkeypatch).TimedPeer.__module__
    timed_peer = sys.modules[module]
    monkeypatch.setattr(timed_peer, "python_of", lambda environment, folder: sys.executable)
    script = tmp_path / "step.py"
    script.write_text(SCRIPT)
    peer = timed_peer.TimedPeer.start("fake", "fake", str(script), {"seconds": 1.5}, tmp_path)
    yield peer
    peer.stop()


def test_each_step_is_asked_for(peer):
    assert peer.first == {"compile": 1.5}
    assert [peer.step() for _ in range(2)] == [{"cpu": 1, "wall": 2}, {"cpu": 2, "wall": 4}]
    assert {peer: "several peers are told apart"}[peer]


def test_a_peer_that_ended_is_an_error(peer):
    peer.step()
    peer.step()
    with pytest.raises(RuntimeError, match="fake's step ended with exit code 7"):
        peer.step()
