"""T49 to T53 in two real processes over loopback, and the same rules in one process with a store of its own."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from rl_reasoning.config import Distributed
from rl_reasoning.parallel import exchange
from rl_reasoning.parallel.hosts import ALONE, Hosts, HostsError, join, shard_digests

PROGRAM = pathlib.Path(__file__).parent / "host_program.py"
ROOT = pathlib.Path(__file__).parents[2]


def together(scenario, wait=True):
    """[(exit code, standard output, standard error)] of two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": "", "JAX_NUM_CPU_DEVICES": "1"}
    processes = [subprocess.Popen([sys.executable, PROGRAM, scenario, str(index), port], env=environment, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE) for index in range(2)]
    try:
        if not wait:
            processes[0].wait(timeout=60)
            processes[1].kill()
        return [(process.wait(timeout=60), *process.communicate()) for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.slow
def test_t49_who_is_missing_is_named_with_where_it_was_and_stacks_are_dumped():
    (code, out, errors), (_, _, sleeper) = together("asleep", wait=False)
    assert code == 3
    seconds, said = out.split(maxsplit=1)
    assert float(seconds) < 2 + 3
    assert said == "update of step 2: after 2 s these are missing: process 1 (last in rollout of step 2)\n"
    assert "host_program.py" in errors  # where this process waited
    assert "in asleep" in sleeper  # and where the other one is


@pytest.mark.slow
def test_t50_different_settings_are_refused_at_the_start_with_the_difference():
    for code, out, _ in together("other_settings"):
        assert code == 3
        assert "rl.steps is 70 in process 0 and 80 in process 1: start all processes with the same" in out


@pytest.mark.slow
def test_t51_one_process_without_an_answer_changes_no_control_flow():
    assert [(code, out.splitlines()[-1]) for code, out, _ in together("nothing_scored")] == [(0, "together")] * 2


@pytest.mark.slow
def test_t52_a_failure_of_one_process_is_told_to_the_others_at_once():
    (code, _, _), (other, out, _) = together("cleanup_fails")
    assert (code, other) == (3, 3)
    seconds, said = out.split(maxsplit=1)
    assert float(seconds) < 1.5  # and not only when the time is over
    assert said == "process 0 has failed in the save of step 1: OSError: [Errno 28] No space left on device\n"


@pytest.mark.slow
def test_t53_replicas_that_differ_are_found_in_that_step():
    for code, out, _ in together("replica_differs"):
        assert code == 3
        assert "step 2: policy.norm [0:4] is not the same in process 0 and process 1" in out


class Shelf:
    """The store as a dict: what is not there will not come."""

    def __init__(self):
        self.texts = {}

    def key_value_set(self, key, value, allow_overwrite=False):
        assert allow_overwrite or key not in self.texts
        self.texts[key] = value

    def blocking_key_value_get(self, key, timeout_in_ms):
        if key not in self.texts:
            raise RuntimeError("DEADLINE_EXCEEDED")
        return self.texts[key]

    def key_value_dir_get(self, key):
        return [(name, text) for name, text in self.texts.items() if name.startswith(key)]

    def key_value_delete(self, key):
        del self.texts[key]


def pair(seconds=0.0):
    shelf = Shelf()
    return [Hosts(shelf, index=index, count=2, seconds=seconds or 0.01) for index in (0, 1)], shelf


def test_a_process_alone_meets_itself_and_leaves_one_text_behind():
    shelf = Shelf()
    alone = Hosts(shelf, index=0, count=1, seconds=1)
    for step in range(5):
        assert alone.meet("update", step, {"answers": step}) == [{"answers": step}]
    assert len(shelf.texts) == 2  # where it is, and the last meeting: the store does not grow


def test_t49_the_missing_one_is_named():
    (first, second), _ = pair()
    second.at("verification", 7)
    with pytest.raises(HostsError, match=r"update of step 7: .* missing: process 1 \(last in verification of step 7\)"):
        first.meet("update", 7)


def test_a_process_that_took_another_turn_is_named():
    (first, second), _ = pair()
    with pytest.raises(HostsError, match="missing"):
        second.meet("save", 4)
    with pytest.raises(HostsError, match="process 1 is at save of step 4, and process 0 at update of step 3"):
        first.meet("update", 3)


def test_t52_a_failure_is_told_and_goes_on():
    (first, second), _ = pair()
    with pytest.raises(KeyError), second.announced("cleaning"):
        raise KeyError("x")
    with pytest.raises(HostsError, match="process 1 has failed in cleaning: KeyError: 'x'"):
        first.meet("update", 1)


def test_what_process_0_finds_is_what_all_are_told():
    (first, second), shelf = pair()
    shelf.texts["hosts/met/0/0"] = '{"phase": "base", "step": 0, "note": true, "stop": null}'
    assert second.told(lambda: pytest.fail("it has no disk"), "base") is True
    (first, second), shelf = pair()
    shelf.texts["hosts/met/0/1"] = '{"phase": "base", "step": 0, "note": null, "stop": null}'
    assert first.told(lambda: [1, "a"], "base") == [1, "a"]


def test_t2_a_wish_to_stop_reaches_all_at_the_same_meeting():
    (first, _), shelf = pair()
    heard = []
    first.heed(lambda: None, heard.append)
    for meeting, stop in enumerate((None, 15, 15)):
        said = {"phase": "update", "step": meeting, "note": None, "stop": stop}
        shelf.texts[f"hosts/met/{meeting}/1"] = json.dumps(said)
    first.meet("update", 0)
    assert heard == []
    first.meet("update", 1)
    assert heard == [15]


def test_t49_a_phase_that_is_late_has_its_stack_written_by_a_thread_that_holds_the_interpreters_lock(capfd):
    """One that does not, as of faulthandler.dump_traceback_later, ends the process now and then."""
    hosts = Hosts(Shelf(), index=0, count=2, seconds=0.05)
    hosts.at("update", 7)
    deadline, said = time.monotonic() + 5, ""
    while "in test_t49_a_phase_that_is_late" not in said and time.monotonic() < deadline:
        time.sleep(0.01)
        said += capfd.readouterr().err
    assert "in test_t49_a_phase_that_is_late" in said
    assert "Current thread" in said  # the one that writes
    hosts.at("update", 8)
    hosts.rest()  # in time
    time.sleep(0.1)
    assert capfd.readouterr().err == ""


def test_t49_a_phase_that_takes_too_long_ends_the_process_and_names_all(capfd):
    left, shelf = [], Shelf()
    hosts = Hosts(shelf, index=0, count=2, seconds=60, longest=0.05, leave=left.append)
    shelf.texts["hosts/at/1"] = "rollout of step 7"
    hosts.at("update", 7)
    deadline = time.monotonic() + 5
    while not left and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left == [1]
    assert hosts.failures() == ["process 0 has been in update of step 7 for 0.05 s; process 1 in rollout of step 7: "
                                "leaving"]
    hosts.at("update", 8)
    hosts.rest()  # in time
    time.sleep(0.1)
    assert left == [1]


def test_arrays_and_texts_of_a_process_alone_go_nowhere():
    values = {"a": np.float32([-0.0, 1.5])}
    assert exchange.from_first(ALONE, values, values) is values
    assert exchange.texts(ALONE, "own", "verdicts") == ["own"]
    assert exchange.fetch({"a": jax.numpy.ones(2), "b": 3})["a"].tolist() == [1, 1]
    assert (ALONE.meet("x", 1, 5), ALONE.told(lambda: 6, "x")) == ([5], 6)
    assert join(Distributed()) is ALONE


def test_t53_copies_that_differ_within_a_process_are_found():
    whole = jax.sharding.NamedSharding(jax.make_mesh((2,), ("data",), devices=jax.devices()[:2]),
                                       jax.sharding.PartitionSpec())
    copies = [jax.device_put(np.array([1.0, value], np.float32), device)
              for device, value in zip(jax.devices(), (2.0, 2.5), strict=False)]
    tree = {"norm": jax.make_array_from_single_device_arrays((2,), whole, copies)}
    digests, different = shard_digests(tree)
    assert list(digests) == ["norm [0:2]"]
    assert "norm [0:2] is not the same on all devices" in different
    for hosts, who in ((Hosts(Shelf(), index=0, count=1), "process 0: "), (ALONE, "")):
        with pytest.raises(HostsError, match=rf"step 3: {who}norm \[0:2\] is not the same on all devices"):
            hosts.same(tree, 3)
    good = {"norm": jax.device_put(np.ones(2), whole),
            "split": jax.device_put(np.arange(2), jax.sharding.NamedSharding(
                whole.mesh, jax.sharding.PartitionSpec("data")))}
    digests, different = shard_digests(good)
    assert list(digests) == ["norm [0:2]", "split [0:1]", "split [1:2]"]
    assert not different


def test_process_0_leaves_last():
    (first, second), shelf = pair()
    second.leave()
    first.leave(seconds=60)  # at once, since everybody has left
    assert {"hosts/left/0", "hosts/left/1"} <= set(shelf.texts)


def test_without_jax_distributed_it_says_what_to_call():
    with pytest.raises(HostsError, match=r"call jax\.distributed\.initialize"):
        Hosts()
