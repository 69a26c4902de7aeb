"""Thinking at test time without training: LatentSeek on the countdown base, beside what else the tokens could buy.

    python experiments/run.py --config=experiments/configs/latent.py
    python experiments/run.py --config=experiments/configs/latent.py --config.latent.tokens=sample

For each held-out problem the hidden states that chose the first tokens of the likeliest answer are moved by a
policy gradient (arXiv 2505.13308), and the policy goes on from their tokens; its parameters stay as they are.

Hardware: any machine with a CPU; two cores take half a minute beside the base, which is trained once. Expected with
seed 0 and the perfect reward, in percent for one, two and eleven answers a problem: latent 48.8, 61.3, 76.6; random
steps instead 48.8, 56.2, 62.5; the likeliest answer and then draws 48.8, 57.0, 85.5. With --config.latent.reward=
likelihood or value, which do not know the right answer, nothing is gained.

Presets after the colon: smoke, every stage at toy size; smollm2, a language model on sums, and smollm2_self, judging
its own answers; list, the algorithms.
"""

from ml_collections import ConfigDict

from rl_reasoning import edge
from rl_reasoning.config import Experiment


def get_config(preset: str = "") -> ConfigDict:
    """The settings of one preset."""
    config = edge.to_config_dict(Experiment())
    config.name = "latent"
    config.mode = "latent_search"

    # The problems and the policy: the base of experiments/configs/countdown.py, trained once and kept.
    config.task.kind = "countdown"
    config.evaluation.problems = 256

    # How the baselines draw, and how long an answer may be: eleven tokens and the end.
    config.evaluation.sampling.temperature = 1.0
    config.evaluation.sampling.max_tokens = 12

    # As published (fraction and rate were looked for on other problems; the published 0.2 and 0.03 to 0.05 are near).
    config.latent.reward = "perfect"
    config.latent.fraction = 0.2
    config.latent.steps = 10
    config.latent.threshold = -0.2
    config.latent.tokens = "argmax"
    config.latent.answer = "last"
    config.latent.optimizer.learning_rate = 0.1
    config.latent.noise = 1.0

    edge.apply_preset(config, preset, PRESETS)
    return config


def smoke(config: ConfigDict) -> None:
    """Every stage at toy size: shows that all of it runs, and nothing about searching."""
    config.name += "-smoke"
    config.task.countdown.numbers = 2
    config.task.countdown.limit = 24
    config.task.countdown.held_out = 0.3
    config.model.layers = 1
    config.model.width = 32
    config.model.heads = 2
    config.model.kv_heads = 1
    config.model.head_dim = 16
    config.model.mlp = 64
    config.warm_start.steps = 120
    config.warm_start.refine_steps = 0
    config.warm_start.batch = 64
    config.warm_start.optimizer.learning_rate = 5e-3
    config.evaluation.problems = 8
    config.evaluation.bootstrap = 100
    config.evaluation.sampling.max_tokens = 6
    config.latent.steps = 3
    config.latent.batch = 8


def smollm2(config: ConfigDict) -> None:
    """SmolLM2-135M-Instruct on sums in text, a few problems; experiments/configs/smollm2.py says what it needs."""
    config.name += "-smollm2"
    config.task.kind = "arithmetic"
    config.model.source = "smollm2-135m"
    config.warm_start.steps = 0
    config.warm_start.refine_steps = 0
    config.evaluation.problems = 16
    config.evaluation.sampling.max_tokens = 24
    config.latent.methods = ("greedy", "latent", "greedy_best_of")
    config.latent.fraction = 0.6  # an answer says the sum again first; its result lies within
    config.latent.steps = 3
    config.latent.optimizer.learning_rate = 0.03
    config.latent.batch = 16


def smollm2_self(config: ConfigDict) -> None:
    """The same model judging its own answers, which takes far more tokens than giving them."""
    smollm2(config)
    config.name += "-self"
    config.evaluation.problems = 6
    config.latent.reward = "self"
    config.latent.steps = 1
    config.latent.checks.max_tokens = 48


PRESETS = {"smoke": smoke, "smollm2": smollm2, "smollm2_self": smollm2_self}
