"""A policy's parameters on disk, by Orbax: a folder appears whole or not at all."""

from pathlib import Path

import jax
import orbax.checkpoint as ocp

from rl_reasoning.models import lora
from rl_reasoning.models.decoder import DecoderConfig, Parameters, initialize


def save(path: Path, parameters: Parameters) -> None:
    """Writes the parameters to a new folder and waits until it stands."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.absolute(), parameters)


def restore(path: Path, config: DecoderConfig) -> Parameters:
    """Reads what is trained of a decoder of these sizes: its adapters, or all its parameters where it has none.

    Raises:
      ValueError: the folder holds another model.
      FileNotFoundError: there is no such folder.
    """
    expected, _ = lora.split(config, jax.eval_shape(lambda: initialize(config, jax.random.key(0))))
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path.absolute(), expected)
