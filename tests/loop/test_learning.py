"""Learning truth (T66): every algorithm solves a two-armed bandit, and none learns from shuffled rewards."""

import dataclasses

import numpy as np
import pytest
from two_arms import STEPS, make_lab, with_seed

from rl_reasoning.algorithms import ALGORITHMS
from rl_reasoning.loop.reinforce import begin, make_trainer, train_step

SEEDS = (0, 1, 2)
QUICK = ("nsr",)
# Its greedy baseline is no average, so that a control collapses on one arm in most runs: more of them tell chance from
# learning (over 12 seeds 3 collapsed on the paid arm and 9 on the other).
CONTROL_SEEDS = {"remax": range(8)}
BEST_OF_N = "grpo_passk"  # stops teaching once two answers of a group are right, so it has a test of its own
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
         for name in ALGORITHMS if name != BEST_OF_N]


def learn(trainer, metric="reward/right"):
    """One metric at every step of a run, by default the share of right answers."""
    first = trainer.lab.first()
    state = begin(trainer, first)
    shares = []
    for step in range(1, STEPS + 1):
        state, metrics, _ = train_step(trainer, state, step, first)
        assert np.isfinite(list(metrics.values())).all()
        shares.append(metrics[metric])
    return shares


def shuffled(trainer):
    rl = dataclasses.replace(trainer.lab.experiment.rl, shuffle_rewards=True)
    experiment = dataclasses.replace(trainer.lab.experiment, rl=rl)
    return dataclasses.replace(trainer, lab=dataclasses.replace(trainer.lab, experiment=experiment),
                               learner=dataclasses.replace(trainer.learner, rl=rl))


@pytest.mark.parametrize("name", NAMES)
def test_solves_a_bandit_and_learns_nothing_from_shuffled_rewards(name):
    # Once all is solved a refill finds nothing, so it need not look long.
    trainer = make_trainer(make_lab(SEEDS[0], algorithm=name, objective={"plan_refill": 1} if name == "dapo" else {}),
                           name)
    solved = [np.mean(learn(with_seed(trainer, seed))[-5:]) for seed in SEEDS]
    assert min(solved) >= 0.95
    control = [np.mean(learn(with_seed(shuffled(trainer), seed))[-5:])
               for seed in CONTROL_SEEDS.get(name, SEEDS)]
    # Without a baseline a control may collapse on either arm by chance; what it must not do is prefer the paid one.
    assert np.mean(control) < 0.6


@pytest.mark.slow
def test_best_of_n_makes_groups_without_a_right_answer_rare():
    """What it maximises is the chance that a group holds a right answer; shuffled rewards do not raise it."""
    trainer = make_trainer(make_lab(SEEDS[0], algorithm=BEST_OF_N), BEST_OF_N)
    runs = [learn(with_seed(trainer, seed), "groups/all_wrong") for seed in SEEDS]
    controls = [learn(with_seed(shuffled(trainer), seed), "groups/all_wrong") for seed in SEEDS]
    before, after, control = np.mean([run[:3] for run in runs]), np.mean([r[-10:] for r in runs]), np.mean(
        [c[-10:] for c in controls])
    assert before > 0.05
    assert after < before / 3
    assert control > after
