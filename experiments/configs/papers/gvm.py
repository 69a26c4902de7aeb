"""GVM, samples where they lower the gradient's variance (arXiv 2505.02391), on Qwen2.5-Math-1.5B.

    python experiments/run.py --config=experiments/configs/papers/gvm.py \
        --config.model.source=PATH/TO/Qwen2.5-Math-1.5B \
        --config.task.math.train=NUMINA.parquet --config.task.math.held_out=HELD_OUT.parquet

After the colon: raft_plus_plus, gvm_grpo and grpo, the paper's comparisons; the default is GVM-RAFT++. The paper trains
on NuminaMath and evaluates on MATH-500, Minerva, Olympiad, AIME 2024 and AMC 2023; both are files of your own here.

Hyper-parameters are the published ones: 1,024 problems a step, mini-batches of 256, learning rate 1e-6, answers of
3,072 tokens, estimates renewed every 10 steps, alpha 1e-3, beta 2, KL 1e-3 by k3 for the two forms of GRPO. Choices of
ours: 8 answers a problem on average, since the note that these settings were taken from does not say, and clip 0.2
for RAFT++ (the paper tries 0.28 to 0.4: --config.objective.clip_high).

Expected, as published for the 1.5B policy, avg@8 at temperature 1 (this has not been run here), MATH-500 / AMC 2023:
base 56.35 / 37.81, GRPO 70.78 / 47.19, RAFT++ 69.02 / 44.06, GVM-GRPO 73.92 / 49.06, GVM-RAFT++ 72.90 / 51.88; and two
to four times fewer steps to the same accuracy.

Planned (compiled for it, not run; scripts/plan.py --config=experiments/configs/papers/gvm.py --topology=v5e:4x4):
fits, of 15.75 GiB a chip decoding takes 11.05 and the update 8.00; a step whose answers all have the most tokens is
estimated at 1,200 s, 862 of them decoding, without the gradient norms.
"""

from ml_collections import ConfigDict

from rl_reasoning import edge
from rl_reasoning.config import Experiment


def get_config(preset: str = "") -> ConfigDict:
    """The settings of one preset."""
    config = edge.to_config_dict(Experiment())
    config.name = "gvm"

    config.task.kind = "math"
    config.task.math.train = ("numina.parquet",)
    config.task.math.held_out = ("math500.jsonl",)
    config.task.math.overlap = "drop"
    config.task.math.prompt = "plain"

    config.model.source = "hf:Qwen/Qwen2.5-Math-1.5B"
    config.model.prompt = "qwen_boxed"
    config.model.precision.parameters = "bfloat16"
    config.model.precision.compute = "bfloat16"
    config.warm_start.steps = 0
    config.warm_start.refine_steps = 0

    config.algorithm = "gvm_raft_plus_plus"
    config.rl.steps = 100
    config.rl.prompts = 1024
    config.rl.samples = 8
    config.rl.minibatches = 4
    config.rl.microbatches = 32
    config.rl.max_tokens = 3072
    config.rl.row_length = 1024 + 3072
    config.rl.slots = 1024
    config.rl.remat = "block"
    config.rl.optimizer.learning_rate = 1e-6
    config.mesh.fsdp = 0  # all devices

    config.evaluation.problems = 500
    config.evaluation.samples = 8
    config.evaluation.sampling.max_tokens = 3072

    edge.apply_preset(config, preset, PRESETS)
    return config


def raft_plus_plus(config: ConfigDict) -> None:
    """The same without allocation."""
    config.algorithm = "raft_plus_plus"


def gvm_grpo(config: ConfigDict) -> None:
    """GRPO on allocated groups."""
    config.algorithm = "gvm_grpo"
    config.objective.update(kl_coefficient=1e-3, kl_estimator="k3")


def grpo(config: ConfigDict) -> None:
    """GRPO, as many answers to every problem."""
    config.algorithm = "grpo"
    config.objective.update(kl_coefficient=1e-3, kl_estimator="k3")


PRESETS = {"raft_plus_plus": raft_plus_plus, "gvm_grpo": gvm_grpo, "grpo": grpo}
