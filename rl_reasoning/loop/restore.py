"""From a finished run's folder back to its policy, and on to a Hugging Face folder."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from rl_reasoning import edge, export, optim
from rl_reasoning.json_file import read_json
from rl_reasoning.loop.setup import Lab, build
from rl_reasoning.loop.warm_start import base, base_path
from rl_reasoning.models import hf_config, lora, pretrained
from rl_reasoning.models.decoder import DecoderConfig, Parameters, initialize
from rl_reasoning.training import checkpoints


def restore(run: Path, step: int | None = None) -> tuple[Lab, Parameters]:
    """The lab of a run and its policy's parameters, adapters included, as they were after a step.

    Args: step: None is the last that was kept, 0 the base.
    Raises:
      FileNotFoundError: no such run or step, or the base is needed and not kept any more.
      ConfigError: settings that this version cannot run, a model that cannot be read, or a checkpoint that is damaged
        or of another model.
    """
    lab = build(edge.read_experiment(read_json(run / "config.json").get("config", {})))
    lab.verifier.close()  # nothing is verified here
    if step == 0 or (step is None and lab.experiment.rl.steps == 0):
        return lab, _kept_base(lab)
    path = _checkpoint(run, step)
    try:
        trained = _trained(path, lab.policy.config, averaged=lab.experiment.rl.optimizer.average > 0)
    except ValueError as error:
        raise edge.ConfigError(str(error)) from error
    if lab.policy.config.lora is None:
        return lab, trained
    _, frozen = lora.split(lab.policy.config, _kept_base(lab))
    return lab, lora.join(trained, frozen)


def _trained(path: Path, config: DecoderConfig, *, averaged: bool) -> Parameters:
    """What was trained of a decoder, or its averages, where the run evaluated those."""
    if not averaged:
        return checkpoints.restore_policy(path, config)
    trained, _ = lora.split(config, jax.eval_shape(lambda: initialize(config, jax.random.key(0))))
    means = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float32), trained)
    found = checkpoints.restore(path, {"optimizer": (optim.Averaged(None, {"policy": means}),)})
    return jax.tree.map(lambda mean, leaf: jnp.asarray(mean, leaf.dtype), found["optimizer"][0].average["policy"],
                        trained)


def _kept_base(lab: Lab) -> Parameters:
    """The base; it is not trained again where it was trained once and cannot be found."""
    kept = base_path(lab.experiment)
    if lab.experiment.warm_start.updates and not kept.exists():
        raise FileNotFoundError(f"the base that this run needs is not in {kept}; start in the folder that the run was "
                                "started in")
    return base(lab)


def export_run(run: Path, out: Path, *, step: int | None = None, dtype: str = "float32",
               shard_bytes: int = export.SHARD_BYTES, adapters_only: bool = False) -> None:
    """Writes a run's policy as a Hugging Face folder.

    Args:
      dtype: type of the weights, "float32" or "bfloat16".
      adapters_only: the adapters as PEFT files, instead of the whole model with the adapters merged.

    Raises: FileExistsError: `out` is there already. ValueError: no family of Hugging Face has this decoder, or it has
      no adapters. Others: as `restore`.
    """
    with export.whole_folder(out) as folder:
        lab, parameters = restore(run, step)
        name, config = lab.experiment.model.source, lab.policy.config
        source = None if name == "random" else pretrained.resolve_source(name)
        if adapters_only:
            export.write_adapters(folder, config, parameters, name.removeprefix(pretrained.HUB))
        else:
            content = _content(lab, source, dtype)
            export.write_weights(folder, config, parameters, content, shard_bytes)
        export.write_tokenizer(folder, lab.policy.tokenizer, source)


def _content(lab: Lab, source: Path | None, dtype: str) -> dict[str, Any]:
    """config.json: the source's own where it has one, since training changes nothing in it but the weights' type."""
    if source is not None and source.is_dir():
        content = read_json(source / "config.json")
        content.pop("dtype", None)
        return content | {"torch_dtype": dtype}
    plain = dataclasses.replace(lab.policy.config, lora=None)
    return hf_config.to_hf(plain, dtype) | {"eos_token_id": lab.policy.tokenizer.eos_id, "bos_token_id": None}


def _checkpoint(run: Path, step: int | None) -> Path:
    kept = checkpoints.steps(run / "checkpoints")
    if not kept or step not in (None, *kept):
        raise FileNotFoundError(f"{run / 'checkpoints'} holds no {'step' if step is None else f'step {step}'}")
    return kept[max(kept) if step is None else step]
