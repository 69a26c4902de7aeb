"""What leaves its band is said once, with the value and the setting; what cannot go on ends the run."""

import numpy as np
import pytest

from rl_reasoning.config import Watch
from rl_reasoning.loop.watch import Diverged, NothingInformative, outside, repetition, watch

FINE = {"optimizer/skipped": 0.0, "optimizer/idle": 0.0, "policy/entropy": 0.5, "policy/kl_reference": 0.1,
        "length/repetition": 0.0, "length/truncated": 0.0, "optimizer/gradient_norm": 1.0}


def seen(steps, settings=None, **metrics):
    streaks = {}
    for step in range(1, steps + 1):
        streaks = watch(settings or Watch(), streaks, step, FINE | metrics)
    return streaks


@pytest.mark.parametrize(("metric", "value", "said"), [
    ("policy/entropy", 1e-3, "policy/entropy is 0.001, below watch.entropy_low=0.005"),
    ("policy/kl_reference", 2.0, "policy/kl_reference is 2, above watch.kl_high=1"),
    ("length/repetition", 0.9, "length/repetition is 0.9, above watch.repetition_high=0.5"),
    ("length/truncated", 0.75, "length/truncated is 0.75, above watch.truncated_high=0.5"),
    ("optimizer/gradient_norm", 1e4, "optimizer/gradient_norm is 1e+04, above watch.gradient_high=100"),
])
def test_a_band_that_is_left_for_three_steps_is_said_once(capsys, metric, value, said):
    assert seen(2, **{metric: value}) == {metric: 2}
    assert capsys.readouterr().err == ""
    seen(9, **{metric: value})
    assert capsys.readouterr().err.count(f"warning: step 3: {said}") == 1


def test_a_healthy_run_is_quiet_and_forgets_its_streaks(capsys):
    assert seen(5) == {}
    assert watch(Watch(), {"idle": 4, "policy/entropy": 2}, 9, FINE) == {}
    assert capsys.readouterr().err == ""


def test_a_bound_of_zero_never_warns():
    off = Watch(entropy_low=0, kl_high=0, repetition_high=0, truncated_high=0, gradient_high=0)
    assert not list(outside(off, dict.fromkeys(FINE, 1e9) | {"policy/entropy": 0.0}))


def test_t23_a_streak_of_skipped_updates_ends_the_run_and_knows_where_it_began():
    assert seen(2, Watch(skipped=3), **{"optimizer/skipped": 1.0}) == {"skipped": 2}
    with pytest.raises(Diverged, match="no update of the last 3 steps had a finite gradient") as error:
        seen(9, Watch(skipped=3), **{"optimizer/skipped": 1.0})
    assert error.value.since == 1


def test_a_refill_that_finds_nothing_for_some_steps_ends_the_run_and_says_why():
    found = FINE | {"plan/informative": 0.0, "plan/rounds": 11.0, "groups/all_right": 0.25, "groups/all_wrong": 0.75}
    streaks = {}
    for step in (1, 2):
        streaks = watch(Watch(uninformative=3), streaks, step, found)
    assert streaks == {"uninformative": 2}
    assert watch(Watch(uninformative=3), streaks, 3, found | {"plan/informative": 0.125}) == {}
    assert watch(Watch(uninformative=0), streaks, 3, found) == {"uninformative": 3}
    with pytest.raises(NothingInformative, match=r"last 3 steps .* in 11 rounds .* 25 % were all right and 75 % all "
                                                 r"wrong.* watch\.uninformative=0"):
        watch(Watch(uninformative=3), streaks, 3, found)


def test_nothing_to_learn_from_is_said_once(capsys):
    seen(12, **{"optimizer/idle": 1.0})
    assert capsys.readouterr().err.count("step 5: nothing to learn from for 5 steps") == 1


def test_repetition_counts_runs_of_four_tokens_that_came_before():
    ids = np.array([[1, 2, 3, 4, 1, 2, 3, 4, 9], [1, 2, 3, 4, 5, 6, 7, 8, 9], [7, 7, 7, 7, 7, 7, 0, 0, 0],
                    [1, 1, 1, 0, 0, 0, 0, 0, 0]])
    lengths = np.array([8, 9, 6, 3])
    # 1 of 5 runs; none; 2 of 3; no run at all. What lies beyond a length does not count.
    assert repetition(ids, lengths) == pytest.approx((1 / 5 + 0 + 2 / 3 + 0) / 4)
    assert repetition(ids[:, :3], np.full(4, 3)) == 0.0
    order = np.array([[1, 2, 3, 4, 4, 3, 2, 1]])
    assert repetition(order, np.array([8])) == 0.0
