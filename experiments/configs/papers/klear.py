"""Klear-Reasoner's reinforcement learning (arXiv 2508.07629): gradient-preserving clipping on maths, then on code.

    python experiments/run.py --config=experiments/configs/papers/klear.py --config.model.source=PATH/TO/SFT_MODEL \
        --config.task.math.train=MATHS.parquet --config.task.math.held_out=AIME.parquet
    python experiments/run.py --config=experiments/configs/papers/klear.py:code --config.task.code.path=PROGRAMS.jsonl \
        --config.model.source=THE_FOLDER_THAT_SCRIPTS_EXPORT_WROTE

The policy is Qwen3-8B-Base after supervised training on 1.5M long answers; without it these settings start nowhere.

Hyper-parameters are the published ones. Maths: 128 problems x 8 answers, mini-batches of 16 problems (8 updates),
learning rate 1e-6, 10 warm-up updates, weight decay 0.1, clip 0.2 and 0.28 with gradients preserved, a supervised term
of 0.1 on right answers, answers of 32K tokens; rewards 1 and 0 here, -1 there, which is the same after normalising
by group. How many steps it ran is not published; 700 is one pass over 88,000 problems. Code: mini-batches of 32,
learning rate 5e-7, reward 2 * pass rate - 1 on at most 16 tests.

Expected, as published (this has not been run here): AIME 2024 / AIME 2025 / HMMT 2025 after supervised training 75.6 /
70.1 / 57.6, after reinforcement learning 83.2 / 75.6 / 60.3; LiveCodeBench v5 / v6 58.5 / 49.6 and 61.6 / 53.1.

Planned (compiled for it, not run; scripts/plan.py --config=experiments/configs/papers/klear.py --topology=v6e:16x16):
fits, of 31.24 GiB a chip decoding takes 11.33 and the update 15.04; decoding a step whose answers all have the most
tokens is estimated at 704 s. There is no estimate of the update, whose compiled program could not be read back.
The code stage takes as much of the same slice, 11.33 and 15.04 GiB.
"""

from ml_collections import ConfigDict

from rl_reasoning import edge
from rl_reasoning.config import Experiment


def get_config(preset: str = "") -> ConfigDict:
    """The settings of one preset."""
    config = edge.to_config_dict(Experiment())
    config.name = "klear-maths"

    config.task.kind = "math"
    config.task.math.train = ("klear_math.parquet",)
    config.task.math.held_out = ("aime2025/test.parquet",)
    config.task.math.overlap = "drop"
    config.task.math.prompt_tokens = 2048

    config.model.source = "Klear-Reasoner-8B-SFT"  # a folder
    config.model.prompt = "qwen3_thinking"
    config.model.precision.parameters = "bfloat16"
    config.model.precision.compute = "bfloat16"
    config.warm_start.steps = 0
    config.warm_start.refine_steps = 0

    config.algorithm = "gppo"
    config.objective.supervised = 0.1
    config.rl.steps = 700
    config.rl.prompts = 128
    config.rl.samples = 8
    config.rl.minibatches = 8
    config.rl.microbatches = 4
    config.rl.max_tokens = 32768 - 2048
    config.rl.row_length = 32768
    config.rl.slots = 512
    config.rl.remat = "block"
    config.rl.optimizer.learning_rate = 1e-6
    config.rl.optimizer.warmup = 10
    config.rl.optimizer.weight_decay = 0.1
    config.rl.optimizer.clip_norm = 1.0
    config.mesh.fsdp = 0  # all devices, the key heads on eight of them
    config.mesh.tensor = 8

    config.evaluation.problems = 30
    config.evaluation.samples = 64
    config.evaluation.sampling.temperature = 0.6
    config.evaluation.sampling.top_p = 0.95
    config.evaluation.sampling.max_tokens = 32768 - 2048

    edge.apply_preset(config, preset, PRESETS)
    return config


def code(config: ConfigDict) -> None:
    """The second stage: programs against tests, with partial rewards."""
    config.name = "klear-code"
    config.task.kind = "code"
    config.task.code.path = "klear_code.jsonl"
    config.task.code.reward = "klear"
    config.task.code.tests = 16
    config.verifier.seconds = 20.0
    config.rl.minibatches = 4
    config.rl.microbatches = 8
    config.rl.optimizer.learning_rate = 5e-7


PRESETS = {"code": code}
