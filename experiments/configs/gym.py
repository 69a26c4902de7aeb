"""Problems of any generator of reasoning-gym, scored by its own rules: SmolLM2-135M-Instruct, five steps.

    pip install -e '.[lm]'
    python scripts/fetch_smollm2.py                                  # once; 98 MB
    python experiments/run.py --config=experiments/configs/gym.py
    python experiments/run.py --config=experiments/configs/gym.py --config.task.gym.name=number_sorting
    python experiments/run.py --config=experiments/configs/gym.py --config.task.gym.level=2

`task.gym.name` is one of the package's generators, `task.gym.options.NAME=VALUE` one of that generator's own options
(they win over the level), `task.gym.level` a level of its curriculum. Scores between 0 and 1 are rewards, so the
algorithm must be defined on them, as grpo is.

Hardware: two CPU cores and 8 GB of memory show that it works; they do not suffice to learn much.

    python experiments/run.py --config=experiments/configs/gym.py:scratch       # minutes: a tiny policy from nothing

Presets after the colon: scratch, sums of three digits by a policy of 0.1M parameters whose warm start is on the
generator's own answers, some of them wrong in the end; smoke, every stage with a handful of answers; list, the
algorithms.
"""

from ml_collections import ConfigDict

from rl_reasoning import edge
from rl_reasoning.config import Experiment


def get_config(preset: str = "") -> ConfigDict:
    """The settings of one preset."""
    config = edge.to_config_dict(Experiment())
    config.name = "gym"

    # Short arithmetic, so that a small model is right now and then.
    config.task.kind = "gym"
    config.task.gym.name = "basic_arithmetic"
    config.task.gym.options = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2}
    config.task.gym.size = 512

    # The policy: the file says its own sizes, and its weights are the base as they are.
    config.model.source = "smollm2-135m"
    config.warm_start.steps = 0
    config.warm_start.refine_steps = 0

    config.algorithm = "grpo"
    config.rl.steps = 5
    config.rl.prompts = 4
    config.rl.samples = 8
    config.rl.minibatches = 1
    config.rl.max_tokens = 64
    config.rl.remat = "block"
    config.rl.optimizer.learning_rate = 1e-5
    config.rl.optimizer.warmup = 0

    config.evaluation.problems = 32
    config.evaluation.samples = 8
    config.evaluation.batch = 32
    config.evaluation.sampling.max_tokens = 64

    edge.apply_preset(config, preset, PRESETS)
    return config


def smoke(config: ConfigDict) -> None:
    """Every stage with a handful of answers: shows that all of it runs, and nothing about learning."""
    config.name += "-smoke"
    config.task.gym.size = 16
    config.rl.steps = 1
    config.rl.prompts = 2
    config.rl.samples = 4
    config.rl.max_tokens = 16
    config.evaluation.problems = 2
    config.evaluation.samples = 4
    config.evaluation.batch = 8
    config.evaluation.bootstrap = 100
    config.evaluation.sampling.max_tokens = 16


def scratch(config: ConfigDict) -> None:
    """A policy from random weights, whose tokens are the words and digits of the problems."""
    config.name += "-scratch"
    config.task.gym.name = "chain_sum"
    config.task.gym.options = {"min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 1}
    config.task.gym.size = 1024
    config.task.gym.instruction = False  # the warm start shows the form of an answer

    config.model.source = "random"
    config.model.width = 64
    config.model.heads = 2
    config.model.kv_heads = 1
    config.model.mlp = 176
    # Right answers until sums are learned, then mixed with others', so that there is something to gain.
    config.warm_start.steps = 600
    config.warm_start.wrong = 0.0
    config.warm_start.refine_steps = 400
    config.warm_start.refine_wrong = 0.4
    config.warm_start.batch = 128
    config.warm_start.optimizer.learning_rate = 5e-3

    config.rl.steps = 32
    config.rl.prompts = 32
    config.rl.samples = 8
    config.rl.minibatches = 2
    config.rl.max_tokens = 8
    config.rl.remat = "none"
    config.rl.optimizer.learning_rate = 1e-4

    config.evaluation.problems = 128
    config.evaluation.samples = 32
    config.evaluation.batch = 1024
    config.evaluation.sampling.max_tokens = 8


PRESETS = {"smoke": smoke, "scratch": scratch}
