"""Problems of the MATH benchmark for a small pre-trained model: level 1, answers in a box, graded by math-verify.

    pip install -e '.[lm]'
    python scripts/fetch_smollm2.py                                      # once; 98 MB
    RL_REASONING_DATA=FOLDER python experiments/run.py --config=experiments/configs/math.py

FOLDER holds math/train.parquet and math/test.parquet, in the RL layout or with columns `problem` and `solution`. Any
other file does, too: `--config.task.math.train=my.jsonl --config.task.math.held_out=other.jsonl`, or
`hf:OWNER/NAME/FILE`, or `tfds:gsm8k:train`. The model is any GGUF file: `--config.model.source=PATH`.

This shows the way for a larger model. What it gives has not been measured: SmolLM2-135M solves few of these problems,
so do not expect it to learn much, and on two CPU cores a step of 64 answers of up to 256 tokens takes minutes.

Presets after the colon: smoke, every stage with a handful of answers; list, the algorithms.
"""

from ml_collections import ConfigDict

from rl_reasoning import edge
from rl_reasoning.config import Experiment


def get_config(preset: str = "") -> ConfigDict:
    """The settings of one preset."""
    config = edge.to_config_dict(Experiment())
    config.name = "math"

    # The problems: those of level 1, without the training problems that share text with held-out ones.
    config.task.kind = "math"
    config.task.math.train = ("math/train.parquet",)
    config.task.math.held_out = ("math/test.parquet",)
    config.task.math.levels = ("1",)
    config.task.math.overlap = "drop"
    config.task.math.prompt_tokens = 256

    # How answers are judged: a second grader sees one in a hundred, to be told of a fault in the first.
    config.task.math.prompt = "boxed"
    config.task.math.grader = "math_verify"
    config.task.math.second_grader = "math_equal"
    config.task.math.second_share = 0.01

    # The policy: the file says its own sizes, and its weights are the base as they are.
    config.model.source = "smollm2-135m"
    config.warm_start.steps = 0
    config.warm_start.refine_steps = 0

    # Reinforcement learning with the algorithm that the command line can change.
    config.algorithm = "w_reinforce"
    config.rl.steps = 50
    config.rl.prompts = 8
    config.rl.samples = 8
    config.rl.minibatches = 1
    config.rl.microbatches = 4
    config.rl.temperature = 1.0
    config.rl.max_tokens = 256
    config.rl.remat = "block"
    config.rl.optimizer.learning_rate = 1e-6

    # Pass@k up to k = samples.
    config.evaluation.problems = 64
    config.evaluation.samples = 16
    config.evaluation.batch = 64
    config.evaluation.sampling.temperature = 0.6
    config.evaluation.sampling.top_p = 0.95
    config.evaluation.sampling.max_tokens = 256

    edge.apply_preset(config, preset, PRESETS)
    return config


def smoke(config: ConfigDict) -> None:
    """Every stage with a handful of answers: shows that all of it runs, and nothing about learning."""
    config.name += "-smoke"
    config.task.math.second_share = 1.0
    config.rl.steps = 1
    config.rl.prompts = 2
    config.rl.samples = 2
    config.rl.microbatches = 1
    config.rl.max_tokens = 16
    config.evaluation.problems = 4
    config.evaluation.samples = 2
    config.evaluation.batch = 8
    config.evaluation.bootstrap = 100
    config.evaluation.sampling.max_tokens = 16


PRESETS = {"smoke": smoke}
