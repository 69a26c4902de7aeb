"""The base: a policy trained on traces or text, once, and kept under a name made of everything that made it."""

import dataclasses
import hashlib
import json
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rl_reasoning import keys, losses, optim
from rl_reasoning.config import Experiment, WarmStart
from rl_reasoning.data import text
from rl_reasoning.edge import ConfigError
from rl_reasoning.loop import fingerprints
from rl_reasoning.loop.keeper import Keeper
from rl_reasoning.loop.setup import Lab
from rl_reasoning.loop.state import LoopState
from rl_reasoning.loop.stops import Stopped, Stops
from rl_reasoning.losses.objective import Objective
from rl_reasoning.models import lora
from rl_reasoning.models.decoder import Parameters, initialize
from rl_reasoning.parallel import Shards
from rl_reasoning.parallel.exchange import from_first
from rl_reasoning.reporting.claims import claim
from rl_reasoning.reporting.console import Progress, say
from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.tasks import Language
from rl_reasoning.training import checkpoints, state
from rl_reasoning.training.batch import Answers, TrainBatch, no_extras
from rl_reasoning.training.manifest import Damaged
from rl_reasoning.training.packing import pack
from rl_reasoning.training.states import memory_of
from rl_reasoning.training.update import make_update

Batches = Callable[[int], TrainBatch]  # by the number of updates before
RECORDED = 20  # updates between two lines of metrics
RECIPE = 1  # raise it when the code would train another base from the same settings


class _Derived:
    """Batches that derive from the seed and the step's number: nothing is to be kept of them."""

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Nothing is to be found again."""


def base(lab: Lab, stops: Stops | None = None) -> Parameters:
    """The parameters that reinforcement learning starts from, with adapters where the settings ask for them.

    Raises Stopped when `stops` hears a signal; the same call then goes on from there, as it does after a kill.
    """
    key = keys.derive(lab.experiment.seed, keys.Role.INITIALIZE, 1)
    stops = stops or Stops(lab.experiment.checkpoint.seconds, hosts=lab.hosts)
    parameters = lora.prepare(lab.policy.config, _plain_base(lab, stops), key)
    return lab.layout.place(parameters) if lab.layout else parameters


def _plain_base(lab: Lab, stops: Stops) -> Parameters:
    """The base without adapters: kept from an earlier run, or trained now."""
    if lab.experiment.warm_start.updates == 0:
        return lab.first()
    folder = base_path(lab.experiment)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with claim(folder.with_name(f"{folder.name}.claim"), waiting=lambda who: say(f"waiting for the base: {who}")):
        kept = _kept(lab, folder / "checkpoint") if lab.hosts.is_first else None
        if lab.hosts.told(lambda: kept is not None, "base", 0):
            return from_first(lab.hosts, kept, jax.eval_shape(lambda: initialize(
                lab.policy.config.plain(), jax.random.key(0))))
        return _trained(lab, folder, stops)


def _kept(lab: Lab, weights: Path) -> Parameters | None:
    """The base of an earlier run, when there is one and it is what was saved."""
    try:
        parameters = checkpoints.restore_policy(weights, lab.policy.config.plain())
    except FileNotFoundError:
        return None
    except Damaged as error:
        say(f"the base is damaged and trained again: {error}")
        return None
    say(f"base: kept from an earlier run, {weights.parent}")
    return parameters


def _trained(lab: Lab, folder: Path, stops: Stops) -> Parameters:
    if lab.experiment.resume == "never":
        shutil.rmtree(folder, ignore_errors=True)
    parameters = _train(lab, RunFolder(folder), stops)
    arrays = checkpoints.on_host({"parameters": {"policy": parameters}}, keep=lab.hosts.is_first)
    if lab.hosts.is_first:
        checkpoints.save(folder / "checkpoint", arrays)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return parameters


def base_path(experiment: Experiment) -> Path:
    """The folder where the base is kept."""
    return Path(experiment.workdir) / "bases" / base_key(experiment)


def base_key(experiment: Experiment) -> str:
    """A name for the base: a digest of the settings that make it. Adapters and kernels make no other base."""
    apart = ("lora", "attention", "decode_attention")
    model = {name: value for name, value in dataclasses.asdict(experiment.model).items() if name not in apart}
    made_by = {"recipe": RECIPE, "seed": experiment.seed, "task": dataclasses.asdict(experiment.task),
               "model": model, "warm_start": dataclasses.asdict(experiment.warm_start)}
    if experiment.warm_start.text:
        made_by["text"] = text.digest(experiment.warm_start.text)
    return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:16]


def _train(lab: Lab, folder: RunFolder, stops: Stops) -> Parameters:
    """Trains the base, or goes on with a training that was stopped or killed, to the same bits."""
    settings, config = lab.experiment.warm_start, lab.policy.config.plain()
    if not (folder.path / "config.json").exists():  # a run of other settings may have begun the same base
        folder.write_config(lab.experiment, command=["warm start"])
    batches, longest = _text_batches(lab, settings) if settings.text else _trace_batches(lab, settings)
    total = settings.updates
    optimizer = optim.make(settings.optimizer, total)
    # With an advantage of 1 everywhere REINFORCE is maximum likelihood.
    objective = Objective(losses.reinforce, "token_mean", longest)
    update = make_update(config, objective, optimizer, temperature=1.0,
                         key=keys.derive(lab.experiment.seed, keys.Role.WARM_START, 0),
                         memory=memory_of(lab.experiment.rl), layout=lab.layout)
    begun = LoopState(state.start(config, lab.first(), optimizer, critic=None, layout=lab.layout), 0, 0.0)
    with _keeper(lab, folder) as keeper, Progress(total, "warm start") as progress:
        current = _resumed(lab, folder, keeper, begun)
        stops.last_resort = lambda: keeper.save_if_intact(current)
        try:
            for step in range(current.step + 1, total + 1):
                if step % RECORDED == 1 or step == current.step + 1:
                    lab.hosts.enter("warm start", step)
                with stops.shield():
                    train, metrics = update(current.train, batches(step - 1))
                    current = LoopState(train, step, 0.0, step)
                    if step % RECORDED == 0 or step == total:
                        _record(folder, step, metrics, progress)
                    keeper.after_step(current, float(step), last=False)
        except Stopped:
            stops.arrived()
            keeper.save_last(current)
            raise
    return current.train.averaged.parameters["policy"]


def _keeper(lab: Lab, folder: RunFolder) -> Keeper:
    """Keeps the newest state; the settings are in the folder's name."""
    settings = dataclasses.replace(lab.experiment.checkpoint, every=lab.experiment.checkpoint.warm_start_every, keep=1)
    return Keeper(folder, settings, fingerprints.program(), _Derived(), hosts=lab.hosts, phase="warm_start")


def _resumed(lab: Lab, folder: RunFolder, keeper: Keeper, begun: LoopState) -> LoopState:
    """The state to go on from; the beginning, where what is there is damaged or other code's."""
    try:
        return keeper.resume(begun, changed=lab.experiment.resume_changed)
    except ConfigError as error:
        say(f"the warm start begins again: {error}")
        for path in checkpoints.steps(folder.checkpoints_path).values():
            shutil.rmtree(path)
        return keeper.resume(begun, changed=False)


def _record(folder: RunFolder, step: int, metrics: Mapping[str, Any], progress: Progress) -> None:
    values = {"loss/supervised": float(metrics["loss/policy"]),
              "optimizer/gradient_norm": float(metrics["optimizer/gradient_norm"])}
    folder.append_metrics(step, "warm_start", values)
    progress.update(step, values)


def _trace_batches(lab: Lab, settings: WarmStart) -> tuple[Batches, int]:
    """A packed batch of traces for each step, from the seed and the step alone; and the longest answer's tokens."""
    tokenizer, task, shards = lab.policy.tokenizer, lab.task, lab.shards
    assert isinstance(task, Language)  # `setup` refuses a warm start by traces of any other
    phases = [settings.wrong] * settings.steps + [settings.refine_wrong] * settings.refine_steps

    def batch(step: int, wrong: float) -> TrainBatch:
        traces = task.traces(random.Random(f"{lab.experiment.seed} warm start {step}"), settings.batch, wrong)
        prompts = [tokenizer.encode_prompt(prompt) for prompt, _ in traces]
        answers = [[*tokenizer.encode(answer), tokenizer.eos_id] for _, answer in traces]
        return _pack(prompts, answers, lab.policy.prompt_tokens, task.longest_answer, shards)

    return lambda step: batch(step, phases[step]), task.longest_answer


def _text_batches(lab: Lab, settings: WarmStart) -> tuple[Batches, int]:
    """A packed batch of pieces of text for each step: the first token is the prompt, the rest is predicted."""
    tokenizer, longest, shards = lab.policy.tokenizer, settings.window - 1, lab.shards
    try:
        read = text.read_text(settings.text, tokenizer.encode, tokenizer.eos_id)
    except (ValueError, FileNotFoundError, ImportError) as error:
        raise ConfigError(f"warm_start.text: {error}") from error
    for line in read.lines():
        say(line)
    pieces = text.windows(read, settings.window, settings.batch, lab.experiment.seed)

    def batch(step: int) -> TrainBatch:
        rows = [piece.tolist() for piece in pieces[step]]
        return _pack([row[:1] for row in rows], [row[1:] for row in rows], 1, longest, shards)

    return batch, longest


def _pack(prompts: list[list[int]], answers: list[list[int]], prompt_width: int, longest: int,
          shards: Shards) -> TrainBatch:
    count = len(prompts)
    ones = np.ones((count, longest), np.float32)
    batch = Answers(
        prompt_ids=_rectangle(prompts, prompt_width), prompt_lengths=np.asarray([len(p) for p in prompts]),
        groups=np.arange(count, dtype=np.int32), ids=_rectangle(answers, longest),
        lengths=np.asarray([len(a) for a in answers], np.int32),
        extras=no_extras(count, longest) | {"advantages": ones, "weights": ones, "scale": ones, "rewards": ones[:, 0]})
    packed = pack(batch, prompt_width + longest, count, shards=shards)
    return TrainBatch(*(array[None] for array in packed))


def _rectangle(rows: list[list[int]], width: int) -> np.ndarray:
    ids = np.zeros((len(rows), width), np.int32)
    for row, values in enumerate(rows):
        ids[row, :len(values)] = values
    return ids
