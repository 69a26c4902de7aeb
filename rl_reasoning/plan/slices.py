"""What is planned: the devices of a slice, and the sizes of a policy and its training."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rl_reasoning.config import Experiment
from rl_reasoning.loop import setup
from rl_reasoning.models import hf_config
from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.options import resolve
from rl_reasoning.plan.programs import Sizes
from rl_reasoning.rollouts import longest_prompt

# Published sizes, so that a plan needs no download.
_QWEN: dict[str, Any] = {"head_dim": 128, "rope_theta": 1e6, "norm_epsilon": 1e-6, "qkv_bias": True}
MODELS = {
    "smollm2-135m": DecoderConfig(49_152, 30, 576, 9, 3, 64, 1_536, context=8_192),
    "qwen2.5-0.5b": DecoderConfig(151_936, 24, 896, 14, 2, mlp=4_864, **{**_QWEN, "head_dim": 64}),
    "qwen2.5-1.5b": DecoderConfig(151_936, 28, 1_536, 12, 2, mlp=8_960, **_QWEN),
    "qwen2.5-3b": DecoderConfig(151_936, 36, 2_048, 16, 2, mlp=11_008, **_QWEN),
    "qwen2.5-7b": DecoderConfig(152_064, 28, 3_584, 28, 4, mlp=18_944, tied=False, **_QWEN),
}


def known_models() -> list[str]:
    """Names that `--model` takes."""
    return sorted(MODELS)


def devices(topology: str) -> Sequence[Any]:
    """The chips of a slice that is not there.

    Raises:
      ValueError: libtpu is not installed, or knows no such slice.
    """
    from jax.experimental import topologies
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except Exception as error:  # of its own kinds: not found, wrong shape
        raise ValueError(f"--topology={topology}: {error}; it needs `pip install libtpu` and a shape that exists, as "
                         "in v5e:2x2, v5e:4x4, v5e:16x16, v5p:2x2x4 or v6e:2x4") from error


def sizes(experiment: Experiment, model: str, prompt_tokens: int) -> Sizes:
    """Sizes of a policy by name or folder, or the config's own, with the config's training.

    Raises:
      ValueError: there is no such model. Others: as `loop.setup.build`.
    """
    algorithm = resolve(experiment.algorithm, experiment.objective)
    if model:
        config = _named(model)
        return Sizes(setup.typed(experiment.model, config), experiment.rl, algorithm,
                     prompt_tokens or experiment.task.math.prompt_tokens)
    alone = dataclasses.replace(experiment, mesh=dataclasses.replace(experiment.mesh, data=1, fsdp=1, tensor=1))
    lab = setup.build(alone)
    lab.verifier.close()
    return Sizes(lab.policy.config, experiment.rl, algorithm,
                 prompt_tokens or longest_prompt(lab.policy.tokenizer, lab.train))


def _named(model: str) -> DecoderConfig:
    if model in MODELS:
        return MODELS[model]
    if (Path(model) / "config.json").is_file():
        return hf_config.read_config(Path(model))
    raise ValueError(f"--model={model}: must be a folder with a config.json, or one of {', '.join(known_models())}")
