"""How noisy PSR's and NSR's gradients are on a run's own policy, problems and mini-batches, before its first update."""

from collections.abc import Callable

import jax
import numpy as np

from rl_reasoning import keys
from rl_reasoning.analysis.signs import Pair, paired_noise
from rl_reasoning.config import Experiment
from rl_reasoning.loop.collect import Collected
from rl_reasoning.loop.reinforce import Trainer, begin, gather, make_trainer
from rl_reasoning.loop.setup import build
from rl_reasoning.loop.state import LoopState
from rl_reasoning.loop.warm_start import base
from rl_reasoning.training.batch import TrainBatch
from rl_reasoning.training.states import memory_of, token_mask
from rl_reasoning.training.update import make_gradient

SIGNS = ("psr", "nsr")


def measure_noise(experiment: Experiment, repeats: int) -> Pair:
    """The noise of the gradient of a run's first mini-batch, over `repeats` rollouts of the same problems at the base.

    The two gradients are brought to one scale by the mean share of tokens that each divides by, which is 1 where the
    objective's denominator is all rows; so both have the expectation of the gradient of the chance to be right.

    Raises:
      ConfigError, NothingScored: as a run of PSR does.
      ValueError: fewer than two repeats.
    """
    lab = build(experiment)
    try:
        trainers = [make_trainer(lab, sign) for sign in SIGNS]
        state = begin(trainers[0], base(lab))
        # The two differ in advantages and weights alone, which the batch carries.
        gradient = make_gradient(lab.policy.config, trainers[0].algorithm.objective(
            experiment.rl.max_tokens, reference=False), temperature=experiment.rl.temperature,
            key=keys.derive(experiment.seed, keys.Role.UPDATE, 0), memory=memory_of(experiment.rl))
        drawn = []
        for step in range(1, repeats + 1):  # the state is that before step 1, so the problems are, too
            collected = gather(trainers[0], state, step)
            drawn.append([_row(gradient, trainer, state, collected) for trainer in trainers])
    finally:
        lab.verifier.close()
    rows, shares = (np.stack(each, axis=1) for each in zip(*(zip(*pair, strict=True) for pair in drawn), strict=True))
    return paired_noise(*(rows * shares.mean(axis=1)[:, None, None]))


def _row(gradient: Callable, trainer: Trainer, state: LoopState, collected: Collected) -> tuple[np.ndarray, float]:
    """The gradient [D] of the first mini-batch, and which share of its tokens it divides by."""
    experiment = trainer.lab.experiment
    rng = np.random.default_rng([experiment.seed, keys.Role.CONTROL, 0])  # the same problems at each repeat
    answers = trainer.learner.answers(collected, state.train.whole, None, 0.0, rng)
    batch: TrainBatch = trainer.learner.updates(answers, rng)[0]
    leaves = jax.tree.leaves(jax.device_get(gradient(state.train, batch)))
    share = float(batch.weights.sum() / np.asarray(token_mask(batch)).sum())
    return np.concatenate([np.ravel(leaf) for leaf in leaves]), share


def record(pair: Pair) -> dict[str, float | int]:
    """The figures as JSON."""
    noise = dict(zip(SIGNS, pair.noise.tolist(), strict=True))
    return {**{f"noise_{sign}": value for sign, value in noise.items()}, "signal": pair.signal, "cosine": pair.cosine}
