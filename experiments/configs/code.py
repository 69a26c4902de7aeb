"""Small programs in Python, checked by tests in a sandbox: SmolLM2-135M-Instruct, five steps.

    pip install -e '.[lm]'
    python scripts/fetch_smollm2.py                                  # once; 98 MB
    python experiments/run.py --config=experiments/configs/code.py

The forty problems of small_programs.jsonl lie beside this file; `--config.task.code.path=FILE` names others, in the
format that rl_reasoning/tasks/code/problems.py describes. Programs run in Linux name spaces without network, files or
processes; a machine that cannot do that is refused unless `--config.task.code.isolation` accepts less.

Hardware: two CPU cores and 8 GB of memory show that it works; they do not suffice to learn to program.

Presets after the colon: smoke, every stage with a handful of answers; list, the algorithms.
"""

import pathlib

from ml_collections import ConfigDict

from rl_reasoning import edge
from rl_reasoning.config import Experiment


def get_config(preset: str = "") -> ConfigDict:
    """The settings of one preset."""
    config = edge.to_config_dict(Experiment())
    config.name = "code"

    # The problems, and a reward that counts every test that passes.
    config.task.kind = "code"
    config.task.code.path = str(pathlib.Path(__file__).with_name("small_programs.jsonl"))
    config.task.code.reward = "rate"
    config.task.code.isolation = "namespace"
    config.task.code.held_out = 0.3
    config.verifier.seconds = 12.0  # on the clock, for programs of 3 processor seconds

    # The policy: the file says its own sizes, and its weights are the base as they are.
    config.model.source = "smollm2-135m"
    config.warm_start.steps = 0
    config.warm_start.refine_steps = 0

    # Reinforcement learning with an algorithm that is defined on rewards between 0 and 1.
    config.algorithm = "grpo"
    config.rl.steps = 5
    config.rl.prompts = 4
    config.rl.samples = 8
    config.rl.minibatches = 1
    config.rl.max_tokens = 128
    config.rl.remat = "block"
    config.rl.optimizer.learning_rate = 1e-5
    config.rl.optimizer.warmup = 0

    config.evaluation.problems = 8
    config.evaluation.samples = 8
    config.evaluation.batch = 32
    config.evaluation.sampling.max_tokens = 128

    edge.apply_preset(config, preset, PRESETS)
    return config


def smoke(config: ConfigDict) -> None:
    """Every stage with a handful of answers: shows that all of it runs, and nothing about learning."""
    config.name += "-smoke"
    config.rl.steps = 1
    config.rl.prompts = 2
    config.rl.samples = 4
    config.rl.max_tokens = 32
    config.evaluation.problems = 2
    config.evaluation.samples = 4
    config.evaluation.batch = 8
    config.evaluation.bootstrap = 100
    config.evaluation.sampling.max_tokens = 32


PRESETS = {"smoke": smoke}
