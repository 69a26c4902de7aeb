"""The pool: order, deadlines, dead and mad workers, back-pressure, and nothing left behind."""

import math
import os
import pathlib
import subprocess
import sys
import threading
import time

import pytest

from rl_reasoning import config
from rl_reasoning.tasks.countdown import Countdown
from rl_reasoning.tasks.pool import InProcess, PoolError, VerifierPool, wire
from rl_reasoning.types import Outcome, Problem, Verdict

PROBLEM = Problem("p", "?", 1, "test")
FUNCTION = "answers_for_pools:score"
ROOT = pathlib.Path(__file__).parent.parent.parent


def make_pool(seconds=1.0, workers=2, memory=256, function=FUNCTION):
    return VerifierPool(Countdown(config.Countdown()),
                        config.Verifier(function=function, workers=workers, seconds=seconds, memory=memory))


@pytest.fixture(scope="module")
def pool():
    with make_pool() as made:
        yield made


def outcomes(pool, texts):
    return [verdict.outcome for verdict in pool.verify_all([(PROBLEM, text) for text in texts])]


def alive(pid):
    """Whether a process runs; one that has ended and waits to be reaped does not."""
    status = pathlib.Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def gone_soon(pids, seconds=2.0):
    until = time.monotonic() + seconds
    while left := [pid for pid in pids if alive(pid)]:
        if time.monotonic() > until:
            return left
        time.sleep(0.01)
    return []


def test_verdicts_come_in_the_order_of_the_answers(pool):
    texts = [f"sleep {0.02 if i % 7 == 0 else 0}" for i in range(40)]
    verdicts = pool.verify_all([(PROBLEM, text) for text in texts])
    assert [verdict.answer for verdict in verdicts] == texts
    assert len({verdict.reason for verdict in verdicts}) == 2  # both workers had a share
    assert pool.verify_all([]) == []


def test_t34_more_hanging_answers_than_workers_cost_their_deadlines_and_no_more(pool):
    """W + 1 of them among good ones: every good one is right, the others TIMEOUT, in ceil((W + 1) / W) deadlines."""
    texts = ["hang", "fine", "hang", *["fine"] * 30, "hang_deaf", "fine"]
    began = time.monotonic()
    verdicts = pool.verify_all([(PROBLEM, text) for text in texts])
    assert time.monotonic() - began < 1.0 * math.ceil(3 / 2) + 1.5
    assert [v.outcome for v in verdicts] == [Outcome.TIMEOUT if "hang" in text else Outcome.RIGHT for text in texts]
    assert all(math.isnan(v.reward) for v in verdicts if v.outcome == Outcome.TIMEOUT)
    assert "no verdict within 1 s" in verdicts[0].reason


def test_t34_a_hanging_answer_delays_nobody_else(pool):
    """The good answers are done long before the deadline of the one that hangs."""
    began, seen = time.monotonic(), []
    for verdict in pool.stream((PROBLEM, text) for text in [*["fine"] * 50, "hang"]):
        seen.append((verdict.outcome, time.monotonic() - began))
    assert seen[49][1] < 0.8
    assert seen[50][0] == Outcome.TIMEOUT


@pytest.mark.parametrize("fault", ["power", "regex", "digits", "recursion", "memory", "raise", "stop", "hang_deaf"])
def test_t33_whatever_an_answer_does_has_a_verdict_within_the_deadline(pool, fault):
    began = time.monotonic()
    first, second = pool.verify_all([(PROBLEM, fault), (PROBLEM, "fine")])
    assert first.outcome in (Outcome.TIMEOUT, Outcome.CRASH)
    assert math.isnan(first.reward)
    assert second.outcome == Outcome.RIGHT
    assert time.monotonic() - began < 1.0 + 1.5


@pytest.mark.parametrize("fault", ["die", "exit", "os_exit", "garbage", "garbage 1"])
def test_t35_a_worker_that_dies_or_talks_nonsense_is_replaced(pool, fault):
    """Tried twice, then CRASH; the others do not notice, and a replacement is there in less than a second."""
    before, began = pool.counts()["verifier/replaced"], time.monotonic()
    assert outcomes(pool, ["fine", fault, "fine"]) == [Outcome.RIGHT, Outcome.CRASH, Outcome.RIGHT]
    assert pool.counts()["verifier/replaced"] == before + 2
    assert time.monotonic() - began < 1.0


def test_t35_an_answer_whose_worker_died_by_chance_gets_its_verdict(pool, tmp_path):
    assert outcomes(pool, [f"die_once {tmp_path / 'flag'}"]) == [Outcome.RIGHT]


def test_t35_a_worker_killed_between_batches_is_replaced(pool):
    victim = pool.processes[1]
    os.kill(victim, 9)
    assert outcomes(pool, ["fine"] * 10) == [Outcome.RIGHT] * 10
    assert victim not in pool.processes


def test_t35_a_template_that_was_killed_is_replaced():
    with make_pool() as pool:
        old = pool.processes
        os.kill(old[0], 9)
        assert not gone_soon(old)
        assert outcomes(pool, ["fine"] * 10) == [Outcome.RIGHT] * 10
        assert not set(old) & set(pool.processes)


def test_t35_memory_that_leaks_costs_a_worker_and_no_answer(pool):
    """Each answer keeps 30 MB and a worker may add 256: fresh workers take over, and no verdict is lost."""
    before = pool.counts()["verifier/replaced"]
    assert set(outcomes(pool, ["leak"] * 40)) == {Outcome.RIGHT}
    assert pool.counts()["verifier/replaced"] > before


def test_t35_a_second_try_is_a_new_workers():
    """Both workers have served, so that either would die of it; the other one is idle when the first has died."""
    with make_pool() as pool:
        outcomes(pool, ["sleep 0.1", "sleep 0.1"])
        assert outcomes(pool, ["fine", "die_unless_new"]) == [Outcome.RIGHT, Outcome.RIGHT]


def test_t35_children_of_a_killed_worker_are_killed_too(pool, tmp_path):
    assert outcomes(pool, [f"children {tmp_path / 'pid'}"]) == [Outcome.TIMEOUT]
    assert not gone_soon([int((tmp_path / "pid").read_text())])


def test_t35_nothing_is_left_after_closing():
    with make_pool() as pool:
        processes = pool.processes
        outcomes(pool, ["fine"])
    assert not gone_soon(processes)
    pool.close()
    with pytest.raises(PoolError, match="closed"):
        pool.verify_all([(PROBLEM, "fine")])


def test_t35_nothing_is_left_when_the_trainer_is_killed(tmp_path):
    """SIGKILL in the middle of a batch that hangs."""
    program = ("import sys; from test_pool import *\npool = make_pool(seconds=60)\n"
               "print(*pool.processes, flush=True)\npool.verify_all([(PROBLEM, 'hang')] * 4)")
    paths = os.pathsep.join([str(ROOT), str(pathlib.Path(__file__).parent)])
    trainer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True,
                               env=os.environ | {"PYTHONPATH": paths})
    processes = list(map(int, trainer.stdout.readline().split()))
    assert len(processes) == 3
    assert all(map(alive, processes))
    trainer.kill()
    trainer.communicate()
    assert not gone_soon(processes)


def test_a_stream_that_is_left_in_the_middle_leaves_the_pool_usable(pool):
    stream = pool.stream((PROBLEM, f"sleep {0.01}") for _ in range(100))
    assert next(stream).outcome == Outcome.RIGHT
    stream.close()
    assert outcomes(pool, ["fine"] * 3) == [Outcome.RIGHT] * 3


def test_back_pressure_bounds_what_is_taken_from_a_stream(pool):
    """While the oldest answer has no verdict, no more than 64 answers a worker are taken."""
    taken = []

    def answers():
        for i in range(500):
            taken.append(i)
            yield PROBLEM, "sleep 0.4" if i == 0 else "fine"

    stream = pool.stream(answers())
    next(stream)
    assert len(taken) <= 2 * 64 + 1
    assert len(list(stream)) == 499
    assert len(taken) == 500


def test_t46_a_source_that_fails_says_so_and_leaves_the_pool_usable(pool):
    def answers():
        yield PROBLEM, "fine"
        raise OSError("the source is gone")

    with pytest.raises(OSError, match="the source is gone"):
        pool.verify_all(answers())
    assert outcomes(pool, ["fine"]) == [Outcome.RIGHT]


def test_several_threads_may_ask_at_once(pool):
    found = {}
    threads = [threading.Thread(target=lambda i=i: found.update({i: [
        v.answer for v in pool.verify_all([(PROBLEM, f"{i} {j}") for j in range(20)])]})) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {i: [f"{i} {j}" for j in range(20)] for i in range(4)}


def test_workers_have_no_jax_and_start_in_milliseconds(pool):
    """`jax` looks for it among the loaded modules and raises KeyError; replacements are what is timed."""
    (verdict,) = pool.verify_all([(PROBLEM, "jax")])
    assert "KeyError: 'jax'" in verdict.reason
    began = time.monotonic()
    outcomes(pool, ["die"] * 10)
    assert (time.monotonic() - began) / 20 < 0.1


def test_what_a_verifier_prints_is_no_message(pool):
    assert outcomes(pool, ["print"] * 2) == [Outcome.RIGHT] * 2


def test_a_text_of_a_megabyte_and_every_character_arrives(pool):
    text = "\x00\ud800\u202e\U0001f600" * 200_000
    (verdict,) = pool.verify_all([(PROBLEM, text)])
    assert verdict.outcome == Outcome.RIGHT
    assert verdict.answer == text[:2000]


def test_the_pool_and_the_process_itself_give_the_same_verdicts():
    """The task's own verifier, here and in workers."""
    task = Countdown(config.Countdown())
    problem = task.problem((3, 5, 7), 26)
    texts = ["3 * 7 = 21 21 + 5 = 26", "3 + 5 = 8 8 + 7 = 15", "nonsense", ""] * 3
    with make_pool(function="") as pool:
        assert pool.verify_all([(problem, text) for text in texts]) == InProcess(task).verify_all(
            [(problem, text) for text in texts])


@pytest.mark.parametrize(("function", "named"), [
    ("no_such_module:f", "no_such_module"), ("answers_for_pools:nothing", "nothing"),
    ("answers_for_pools:LEAK", "list")])
def test_a_verifier_that_cannot_be_loaded_is_an_error_at_the_start(function, named):
    with pytest.raises(PoolError, match=named):
        make_pool(function=function)


def test_a_task_that_cannot_be_sent_is_an_error_that_says_what_to_do():
    class Local(Countdown):
        pass

    with pytest.raises(PoolError, match="top of a module"):
        VerifierPool(Local(config.Countdown()), config.Verifier(workers=1))


@pytest.mark.parametrize("payload", [
    b"", b"null", b"[1, 2]", b'["right", "x", null, "", null]', b'["fine", 1, null, "", null]',
    b'["timeout", 1.0, null, "", null]', b'["right", NaN, null, "", null]', b'["right", 1, null, "", [1]]',
    b"[" * 10**5, b"\xff\xfe"])
def test_t35_what_is_no_verdict_is_refused(payload):
    with pytest.raises(wire.Garbage):
        wire.decode_verdict(payload)


def test_verdicts_survive_the_way():
    composed = Verdict(Outcome.PARTIAL, -0.25, "x", "y", {"style": 0.5, "length": -1.0})
    for verdict in (composed, Verdict(Outcome.RIGHT, 1.0, None, "")):
        assert wire.decode_verdict(wire.encode_verdict(verdict)) == verdict
