"""What is planned: the devices of a slice, and the sizes of a policy and its training."""

import dataclasses
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rl_reasoning.config import Experiment, Mesh
from rl_reasoning.loop import setup
from rl_reasoning.models import hf_config
from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.models.published import SIZES, sizes_of
from rl_reasoning.options import of_run
from rl_reasoning.plan.programs import Sizes
from rl_reasoning.rollouts import longest_prompt


def devices(topology: str) -> Sequence[Any]:
    """The chips of a slice that is not there.

    Raises:
      ValueError: libtpu is not installed, or knows no such slice.
    """
    from jax.experimental import topologies
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError("planning needs libtpu, the TPU compiler, and no TPU: pip install -e '.[plan]'")
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except Exception as error:  # of its own kinds: not found, wrong shape
        raise ValueError(f"--topology={topology}: {error}; give a shape that exists, as in "
                         "v5e:2x2, v5e:4x4, v5e:16x16, v5p:2x2x4 or v6e:2x4") from error


def sizes(experiment: Experiment, model: str, prompt_tokens: int) -> Sizes:
    """Sizes of a policy by name or folder, or the config's own, with the config's training.

    A published model is known by its name; of any other the config's own is read, and its problems.

    Raises:
      ValueError: there is no such model, or the sampler has devices of its own. Others: as `loop.setup.build`.
    """
    if experiment.mesh.sampler:
        raise ValueError(f"mesh.sampler={experiment.mesh.sampler}: a plan is of a slice whose chips sample and train; "
                         "give mesh.sampler=0 and plan the trainer's chips and the sampler's as slices of their own")
    algorithm = of_run(experiment.algorithm, experiment)
    config = _named(model) if model else sizes_of(experiment.model.source)
    if config:
        return Sizes(setup.typed(experiment, config, "tpu"), experiment.rl, algorithm,
                     prompt_tokens or experiment.task.math.prompt_tokens)
    # What has to be read needs no TPU.
    here = dataclasses.replace(experiment.model, attention="xla", decode_attention="xla")
    lab = setup.build(dataclasses.replace(experiment, model=here, mesh=Mesh()))
    lab.verifier.close()
    return Sizes(setup.typed(experiment, lab.policy.config, "tpu"), experiment.rl, algorithm,
                 prompt_tokens or longest_prompt(lab.policy.tokenizer, lab.train))


def _named(model: str) -> DecoderConfig:
    if known := sizes_of(model):
        return known
    if (Path(model) / "config.json").is_file():
        return hf_config.read_config(Path(model))
    raise ValueError(f"--model={model}: must be a folder with a config.json, or one of {', '.join(sorted(SIZES))}")
