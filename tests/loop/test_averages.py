"""A run with averaged parameters: what is evaluated is what its folder gives back."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.configs import countdown
from rl_reasoning import keys
from rl_reasoning.edge import read_experiment
from rl_reasoning.evaluation.evaluate import evaluate
from rl_reasoning.loop import run_experiment
from rl_reasoning.loop.restore import restore
from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.training import checkpoints


@pytest.mark.slow
def test_the_averages_are_evaluated_and_given_back(tmp_path):
    config = countdown.get_config("smoke")
    config.rl.optimizer.average = 0.5
    config.rl.optimizer.learning_rate = 0.02
    experiment = dataclasses.replace(read_experiment(config), workdir=str(tmp_path))
    assert run_experiment(experiment) == 0
    run = tmp_path / "countdown-smoke-w_reinforce-seed0"
    lab, averages = restore(run)
    last = checkpoints.restore_policy(run / "checkpoints" / "step_0003", lab.policy.config)
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), averages, last)
    assert max(jax.tree.leaves(moved)) > 1e-3
    result = evaluate(lab.policy, averages, lab.verifier, lab.held_out, experiment.evaluation,
                      keys.derive(0, keys.Role.EVALUATION, 0), 0)
    assert result.summary["right"] == RunFolder(run).evaluations()[-1]["right"]
