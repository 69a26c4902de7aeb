"""Countdown at tiny scale: what each algorithm does to Pass@1 and to Pass@256.

    python experiments/run.py --config=experiments/configs/countdown.py            # w_reinforce from the base
    python experiments/run.py --config=experiments/configs/countdown.py:compare    # the base and five algorithms

Hardware: any machine with a CPU; two cores are enough. The base is trained once and kept under
`workdir`, so a second run starts at the reinforcement learning. compare took 10 to 15 minutes on
two cores, the default with installation 10.5 minutes on a busy machine.

Expected, over three seeds, in percent (lowest and highest seed): base Pass@1 23.3 to 24.1; after 70 steps
W-REINFORCE 31.5 to 32.6, NSR 31.3 to 32.1, PSR 33.5 to 35.9, GRPO 33.9 to 35.3, PPO 33.6 to 35.0. Pass@256 stays
within noise of the base's 98 to 100.

Presets after the colon: compare; every, all algorithms there are; smoke and smoke_compare, every stage at toy
size; list, the algorithms.
"""

from ml_collections import ConfigDict

from rl_reasoning import edge
from rl_reasoning.config import Experiment

COMPARED = ("base", "psr", "nsr", "w_reinforce", "grpo", "ppo")


def get_config(preset: str = "") -> ConfigDict:
    """The settings of one preset."""
    config = edge.to_config_dict(Experiment())
    config.name = "countdown"

    # The problem: reach a target from three numbers in two steps, one token an integer.
    config.task.kind = "countdown"
    config.task.countdown.numbers = 3
    config.task.countdown.high = 12
    config.task.countdown.limit = 60
    config.task.countdown.operations = "+-*"

    # The policy, and a base that is right about one time in four: traces whose target is often wrong.
    config.model.layers = 2
    config.model.width = 128
    config.warm_start.steps = 600
    config.warm_start.wrong = 0.5
    config.warm_start.refine_steps = 500
    config.warm_start.refine_wrong = 0.3

    # Reinforcement learning with the algorithm that the command line can change.
    config.algorithm = "w_reinforce"
    config.rl.steps = 70
    config.rl.prompts = 64
    config.rl.samples = 8
    config.rl.minibatches = 4
    config.rl.optimizer.learning_rate = 2e-5

    # Pass@k up to k = samples, on problems that no training saw.
    config.evaluation.problems = 128
    config.evaluation.samples = 256

    edge.apply_preset(config, preset, PRESETS)
    return config


def compare(config: ConfigDict) -> None:
    """One base, several algorithms one after another, one table."""
    config.name = "countdown-compare"
    config.mode = "compare"
    config.compare = COMPARED
    config.evaluation.every = 35  # a point half-way, for the picture of Pass@256 against Pass@1


def every(config: ConfigDict) -> None:
    """One base, and every algorithm of the page from it: about two minutes each."""
    from rl_reasoning.algorithms import ALGORITHMS

    config.name = "countdown-every"
    config.mode = "compare"
    config.compare = ("base", *ALGORITHMS)


def smoke(config: ConfigDict) -> None:
    """Every stage at toy size: shows that all of it runs, and nothing about learning."""
    config.name += "-smoke"

    # One step from two numbers, so that a base of a few seconds is right now and then.
    config.task.countdown.numbers = 2
    config.task.countdown.limit = 24
    config.task.countdown.held_out = 0.3
    config.model.width = 32
    config.model.heads = 2
    config.model.kv_heads = 1
    config.model.head_dim = 16
    config.model.mlp = 64
    config.warm_start.steps = 120
    config.warm_start.refine_steps = 40
    config.warm_start.batch = 64
    config.warm_start.wrong = 0.2
    config.warm_start.refine_wrong = 0.2
    config.warm_start.optimizer.learning_rate = 5e-3

    config.rl.steps = 3
    config.rl.prompts = 8
    config.rl.samples = 4
    config.rl.minibatches = 2
    config.rl.max_tokens = 6
    config.evaluation.problems = 8
    config.evaluation.samples = 16
    config.evaluation.batch = 128
    config.evaluation.bootstrap = 100
    config.evaluation.sampling.max_tokens = 6


def smoke_compare(config: ConfigDict) -> None:
    """A comparison at toy size: the base, an algorithm without a critic, and one with."""
    compare(config)
    smoke(config)
    config.compare = ("base", "nsr", "ppo")


PRESETS = {"compare": compare, "every": every, "smoke": smoke, "smoke_compare": smoke_compare}
