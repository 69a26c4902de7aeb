"""A Hugging Face model of your own on sums in text: Qwen2.5, Qwen3, Llama, SmolLM2 or Mistral, adapters trained.

    pip install -e '.[lm]'
    python experiments/run.py --config=experiments/configs/hf.py --config.model.source=PATH/TO/FOLDER
    python experiments/run.py --config=experiments/configs/hf.py --config.model.source=hf:Qwen/Qwen2.5-0.5B-Instruct
    python scripts/export.py runs/hf-w_reinforce-seed0 --to=hf exported      # for transformers or vLLM

The folder holds config.json, safetensors and a tokenizer; a name after hf: is downloaded, the only thing here that
uses the network. Memory is printed before the run starts; with 16-wide adapters on every linear map and weights in
bfloat16 a model of 0.5 B parameters needs about 1 GB for its weights. `--config.model.lora.rank=0
--config.model.precision.parameters=float32` trains all weights.

Presets after the colon: smoke, every stage with a handful of answers; list, the algorithms.
"""

from ml_collections import ConfigDict

from rl_reasoning import edge
from rl_reasoning.config import Experiment


def get_config(preset: str = "") -> ConfigDict:
    """The settings of one preset."""
    config = edge.to_config_dict(Experiment())
    config.name = "hf"

    # The problem: a sum or difference of two numbers of one or two digits, answered in \\boxed{}.
    config.task.kind = "arithmetic"

    # The policy: the folder says its own sizes, and its weights are the base as they are.
    config.model.source = "hf:Qwen/Qwen2.5-0.5B-Instruct"
    config.model.precision.parameters = "bfloat16"
    config.model.lora.rank = 16
    config.model.lora.alpha = 32.0
    config.warm_start.steps = 0
    config.warm_start.refine_steps = 0

    # Reinforcement learning with the algorithm that the command line can change.
    config.algorithm = "w_reinforce"
    config.rl.steps = 50
    config.rl.prompts = 32
    config.rl.samples = 8
    config.rl.minibatches = 4
    config.rl.max_tokens = 32
    config.rl.remat = "block"
    config.rl.optimizer.learning_rate = 1e-4  # adapters take ten times the rate of whole weights

    # Pass@k up to k = samples.
    config.evaluation.problems = 64
    config.evaluation.samples = 32
    config.evaluation.batch = 256
    config.evaluation.sampling.max_tokens = 32

    edge.apply_preset(config, preset, PRESETS)
    return config


def smoke(config: ConfigDict) -> None:
    """Every stage with a handful of answers: shows that all of it runs, and nothing about learning."""
    config.name += "-smoke"
    config.rl.steps = 1
    config.rl.prompts = 2
    config.rl.samples = 4
    config.rl.minibatches = 1
    config.rl.max_tokens = 8
    config.evaluation.problems = 2
    config.evaluation.samples = 4
    config.evaluation.batch = 8
    config.evaluation.bootstrap = 50
    config.evaluation.sampling.max_tokens = 8


PRESETS = {"smoke": smoke}
