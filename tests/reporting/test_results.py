"""Which evaluations belong together, and what is compared with what."""

import numpy as np
import pytest

from rl_reasoning.reporting.results import base_of, collect, difference, display_name, final_of, run_names

BASE = np.array((0, 1, 2, 4, 6, 8)) / 8
FIRST, SECOND = (2, 3, 4, 5, 7, 8), (1, 2, 3, 5, 7, 8)


@pytest.mark.parametrize(
    ("algorithm", "name"), [("w_reinforce", "W-REINFORCE"), ("psr", "PSR"), ("base", "Base"), ("dr_grpo", "Dr. GRPO")]
)
def test_display_name(algorithm, name):
    assert display_name(algorithm) == name


def test_one_run(make_run):
    results = collect([make_run(evaluations={10: FIRST})])
    assert [(each.name, each.step, each.seeds) for each in results] == [("Base", 0, (0,)), ("W-REINFORCE", 10, (0,))]
    base, final = base_of(results), final_of(results)[0]
    assert base.ks == (1, 2, 4, 8)
    assert base.at(1)[0] == pytest.approx(BASE.mean())
    assert base.at(8)[0] == pytest.approx(5 / 6)
    change = difference(final, base)
    assert change.at(1)[0] == pytest.approx(np.mean(FIRST) / 8 - BASE.mean())
    assert change.clear(1)
    assert not change.clear(8)


def test_one_seed_shows_the_interval_that_the_evaluation_recorded(make_run):
    folder = make_run()
    recorded = folder.evaluations()[-1]["pass_at_k"]["4"]
    assert collect([folder])[-1].at(4) == pytest.approx(tuple(recorded))


def test_seeds_of_one_algorithm_are_one_result(make_run):
    folders = [make_run(seed=0, evaluations={10: FIRST}), make_run(seed=1, evaluations={10: SECOND})]
    base, final = collect(folders)
    assert base.per_problem.shape == (1, 6, 4), "the base that both share counts once"
    assert final.seeds == (0, 1)
    assert final.at(1)[0] == pytest.approx((np.mean(FIRST) + np.mean(SECOND)) / 16)


def test_a_step_that_one_seed_has_not_reached_is_left_out(make_run):
    folders = [make_run(seed=0, evaluations={5: SECOND, 10: FIRST}), make_run(seed=1, evaluations={5: SECOND})]
    assert [(each.name, each.step) for each in collect(folders)] == [("Base", 0), ("W-REINFORCE", 5)]


def test_a_repeated_seed_counts_once(make_run):
    assert collect([make_run(seed=3), make_run(seed=3)])[-1].seeds == (3,)


def test_runs_with_other_settings_are_other_results(make_run):
    folders = [make_run(rl={"steps": 10}), make_run(rl={"steps": 20}), make_run(algorithm="psr", rl={"steps": 20})]
    assert run_names(folders) == ["W-REINFORCE, rl.steps 10", "W-REINFORCE, rl.steps 20", "PSR"]
    assert len(final_of(collect(folders))) == 3


def test_seed_and_name_make_no_variant(make_run):
    folders = [make_run(seed=0, name="a", workdir="x"), make_run(seed=1, name="b", workdir="y")]
    assert run_names(folders) == ["W-REINFORCE", "W-REINFORCE"]


def test_other_problems_are_not_compared(make_run):
    first, second = collect([make_run()]), collect([make_run(evaluations={10: (1, 2, 3)})])
    assert difference(second[-1], first[0]) is None
    assert difference(second[-1], second[0]) is None


def test_seeds_on_other_problems_are_refused(make_run):
    with pytest.raises(ValueError, match="evaluated on different problems"):
        collect([make_run(seed=0), make_run(seed=1, evaluations={10: (1, 2, 3)})])


def test_only_common_ks_are_compared(make_run):
    folder = make_run()
    base, final = collect([folder])
    record = {**folder.evaluations()[-1], "total": [8, 8, 8, 8, 8, 7], "right": [2, 3, 4, 5, 7, 7]}
    del record["pass_at_k"]["8"]
    folder.write_evaluation(record, folder.samples("base"))
    base, final = collect([folder])
    assert final.ks == (1, 2, 4)
    assert difference(final, base).ks == (1, 2, 4)


def test_no_evaluations_yet(make_run):
    folder = make_run()
    folder.rewind("warm_start", 1)
    assert collect([folder]) == []
    assert base_of([]) is None
    assert final_of([]) == []
