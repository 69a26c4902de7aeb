"""The Surprising Effectiveness of Negative Reinforcement (arXiv 2506.01347): the policies trained on MATH.

    RL_REASONING_DATA=FOLDER python experiments/run.py \
        --config=experiments/configs/papers/rlvr_decomposed.py --config.model.source=PATH/TO/Qwen2.5-Math-7B \
        [--config.algorithm=psr|nsr|reinforce]

After the colon: ppo and grpo, with the KL penalties that the paper gives these two; qwen3_4b, another policy with
answers of 31,744 tokens, and qwen3_4b_ppo, qwen3_4b_grpo.

Hyper-parameters are the published ones: 1,024 problems x 8 answers a step, 4 updates, learning rate 1e-6, clip 0.2,
temperature 1, 20 passes over MATH's 7,500 training problems, answers of 3,072 tokens. Two are choices of ours where
paper and code disagree: no entropy bonus (the paper says 1e-4, its code 1e-3: --config.objective.entropy), and
rewards by math-verify (its code's rules: --config.task.math.grader=is_equiv). The paper used 8 H200.

Expected, as published for Qwen2.5-Math-7B, Pass@1 / Pass@256 on MATH (this has not been run here):

    base 63.2 / 96.9   PPO 76.6 / 96.3   GRPO 76.3 / 95.5   REINFORCE 74.8 / 92.0
    PSR 74.1 / 91.2    NSR 75.7 / 96.9   W-REINFORCE 76.6 / 96.7

Planned (compiled for it, not run; scripts/plan.py --config=experiments/configs/papers/rlvr_decomposed.py
--topology=v5e:16x16): fits, of 15.75 GiB a chip decoding takes 10.98 and the update 8.35; a step whose answers all
have the most tokens is estimated at 146 s, 102 of them decoding.
With --topology=v5p:4x4x4 --config.mesh.fsdp=64 --config.mesh.tensor=1 it takes 43.76 and 23.04 of 95.73 GiB, and
qwen3_4b with --topology=v6e:16x16 10.18 and 9.43 of 31.24; of these two updates' time there is no estimate.

Afterwards `experiments/configs/evaluate.py:rlvr_decomposed` with `--config.evaluation.run=RUN` is its evaluation.
"""

from ml_collections import ConfigDict

from rl_reasoning import edge
from rl_reasoning.config import Experiment


def get_config(preset: str = "") -> ConfigDict:
    """The settings of one preset."""
    config = edge.to_config_dict(Experiment())
    config.name = "rlvr-decomposed"

    # MATH; its test file shares 13 words in a row with 734 training problems, and the paper trains on all of them.
    config.task.kind = "math"
    config.task.math.train = ("math/train.parquet",)
    config.task.math.held_out = ("math/test.parquet",)
    config.task.math.overlap = "allow"
    config.task.math.prompt = "plain"
    config.task.math.answer_form = "boxed"
    config.task.math.second_grader = "is_equiv"

    # Qwen2.5-Math-7B with the paper's own prompt.
    config.model.source = "hf:Qwen/Qwen2.5-Math-7B"
    config.model.prompt = "qwen_boxed"
    config.model.precision.parameters = "bfloat16"
    config.model.precision.compute = "bfloat16"
    config.warm_start.steps = 0
    config.warm_start.refine_steps = 0

    config.algorithm = "w_reinforce"
    config.rl.steps = 140
    config.rl.prompts = 1024
    config.rl.samples = 8
    config.rl.minibatches = 4
    config.rl.microbatches = 8
    config.rl.max_tokens = 3072
    config.rl.row_length = 1024 + 3072
    config.rl.remat = "block"
    config.rl.optimizer.learning_rate = 1e-6
    config.rl.optimizer.warmup = 0
    config.rl.optimizer.clip_norm = 1.0
    config.checkpoint.every = 7
    config.mesh.fsdp = 0  # all devices, the key heads on four of them
    config.mesh.tensor = 4

    config.evaluation.problems = 500
    config.evaluation.samples = 256
    config.evaluation.sampling.temperature = 0.6
    config.evaluation.sampling.top_p = 0.95
    config.evaluation.sampling.max_tokens = 4096 - 1024

    edge.apply_preset(config, preset, PRESETS)
    return config


def ppo(config: ConfigDict) -> None:
    """A critic that learns ten times as fast, and KL in the reward."""
    config.algorithm = "ppo"
    config.objective.update(kl_coefficient=1e-3, kl_place="reward", critic_clip=0.5, critic_rate=10.0)


def grpo(config: ConfigDict) -> None:
    """KL in the loss, by the estimator k3."""
    config.algorithm = "grpo"
    config.objective.update(kl_coefficient=1e-3, kl_place="loss", kl_estimator="k3")


def qwen3_4b(config: ConfigDict) -> None:
    """Qwen3-4B without thinking, answers of up to 31,744 tokens, 64 of them for each evaluated problem."""
    config.name += "-qwen3-4b"
    config.model.source = "hf:Qwen/Qwen3-4B"
    config.model.prompt = "qwen3_no_thinking"
    config.rl.max_tokens = 31744
    config.rl.row_length = 1024 + 31744
    config.rl.slots = 512
    config.mesh.tensor = 8
    config.rl.microbatches = 64
    config.evaluation.samples = 64
    config.evaluation.sampling.max_tokens = 31744


def qwen3_4b_ppo(config: ConfigDict) -> None:
    """The other policy by PPO."""
    qwen3_4b(config)
    ppo(config)


def qwen3_4b_grpo(config: ConfigDict) -> None:
    """The other policy by GRPO."""
    qwen3_4b(config)
    grpo(config)


PRESETS = {"ppo": ppo, "grpo": grpo, "qwen3_4b": qwen3_4b, "qwen3_4b_ppo": qwen3_4b_ppo,
           "qwen3_4b_grpo": qwen3_4b_grpo}
