"""Learning truth (T66): every algorithm solves a two-armed bandit, and none learns from shuffled rewards."""

import dataclasses

import numpy as np
import pytest
from two_arms import STEPS, make_lab, with_seed

from rl_reasoning.algorithms import ALGORITHMS
from rl_reasoning.loop.reinforce import make_trainer, train_step
from rl_reasoning.training.state import start

SEEDS = (0, 1, 2)
QUICK = ("psr", "nsr", "w_reinforce", "reinforce", "grpo", "ppo")
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ALGORITHMS]


def learn(trainer):
    """Share of right answers at every step of a run."""
    lab = trainer.lab
    state = start(lab.policy.config, lab.first(), trainer.optimizer, critic=trainer.algorithm.value > 0)
    shares = []
    for step in range(1, STEPS + 1):
        state, metrics, _ = train_step(trainer, state, step)
        assert np.isfinite(list(metrics.values())).all()
        shares.append(metrics["reward/right"])
    return shares


def shuffled(trainer):
    rl = dataclasses.replace(trainer.lab.experiment.rl, shuffle_rewards=True)
    experiment = dataclasses.replace(trainer.lab.experiment, rl=rl)
    return dataclasses.replace(trainer, lab=dataclasses.replace(trainer.lab, experiment=experiment))


@pytest.mark.parametrize("name", NAMES)
def test_solves_a_bandit_and_learns_nothing_from_shuffled_rewards(name):
    trainer = make_trainer(make_lab(SEEDS[0], algorithm=name), name)
    solved = [np.mean(learn(with_seed(trainer, seed))[-5:]) for seed in SEEDS]
    assert min(solved) >= 0.95
    control = [np.mean(learn(with_seed(shuffled(trainer), seed))[-5:]) for seed in SEEDS]
    # Without a baseline a control may collapse on either arm by chance; what it must not do is prefer the paid one.
    assert np.mean(control) < 0.6
