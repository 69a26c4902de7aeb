"""PACS, an implicit actor-critic by supervised learning of rewards (arXiv 2509.02522), on Qwen2.5-7B.

    python experiments/run.py --config=experiments/configs/papers/pacs.py --config.model.source=PATH/TO/Qwen2.5-7B \
        --config.task.math.train=DEEPSCALER.parquet --config.task.math.held_out=HELD_OUT.parquet

The paper trains on DeepScaleR's 40,000 problems and evaluates on MATH-500, AMC 2023, AIME 2024 and 2025; both are
files of your own here, in any of the layouts that `rl_reasoning.data.layouts` reads.

Hyper-parameters are the published ones: 1,024 problems x 8 answers, 4 updates, learning rate 1e-6, beta 1, RLOO
coupling, class weights, no clipping of ratio or gradient, no KL, answers of 4,096 tokens (the script; the second
version's text says 8,192), 300 steps.

Expected, as published for Qwen2.5-7B, Pass@1 (this has not been run here): MATH-500 base 61.55, PPO 76.56, GRPO 78.29,
PACS 78.97; AIME 2024 7.26, 15.56, 14.10, 15.80; AIME 2025 3.35, 9.61, 8.36, 13.33. Pass@256 on AIME 2025: 50.11, 42.91,
46.45, 58.22.

Planned (compiled for it, not run; scripts/plan.py --config=experiments/configs/papers/pacs.py --topology=v5e:16x16):
fits, of 15.75 GiB a chip decoding takes 11.86 and the update 8.92; a step whose answers all have the most tokens is
estimated at 194 s, 140 of them decoding.
"""

from ml_collections import ConfigDict

from rl_reasoning import edge
from rl_reasoning.config import Experiment


def get_config(preset: str = "") -> ConfigDict:
    """The settings of one preset."""
    config = edge.to_config_dict(Experiment())
    config.name = "pacs"

    config.task.kind = "math"
    config.task.math.train = ("deepscaler.parquet",)
    config.task.math.held_out = ("math500.jsonl",)
    config.task.math.overlap = "drop"
    config.task.math.prompt_tokens = 512

    config.model.source = "hf:Qwen/Qwen2.5-7B"
    config.model.prompt = "qwen_boxed"
    config.task.math.prompt = "plain"
    config.model.precision.parameters = "bfloat16"
    config.model.precision.compute = "bfloat16"
    config.warm_start.steps = 0
    config.warm_start.refine_steps = 0

    config.algorithm = "pacs"
    config.rl.steps = 300
    config.rl.prompts = 1024
    config.rl.samples = 8
    config.rl.minibatches = 4
    config.rl.microbatches = 8
    config.rl.max_tokens = 4096
    config.rl.row_length = 512 + 4096
    config.rl.remat = "block"
    config.rl.optimizer.learning_rate = 1e-6
    config.rl.optimizer.warmup = 0
    config.rl.optimizer.clip_norm = 0.0
    config.mesh.fsdp = 0  # all devices, the key heads on four of them
    config.mesh.tensor = 4

    config.evaluation.problems = 500
    config.evaluation.samples = 32
    config.evaluation.sampling.temperature = 0.6
    config.evaluation.sampling.top_p = 0.95
    config.evaluation.sampling.max_tokens = 4096

    edge.apply_preset(config, preset, PRESETS)
    return config


def ppo(config: ConfigDict) -> None:
    """The paper's comparison with PPO."""
    config.algorithm = "ppo"
    config.rl.optimizer.clip_norm = 1.0


def grpo(config: ConfigDict) -> None:
    """The paper's comparison with GRPO."""
    config.algorithm = "grpo"
    config.rl.optimizer.clip_norm = 1.0


PRESETS = {"ppo": ppo, "grpo": grpo}
