"""From settings to the things that a run needs: the task, its problems, the policy and its first parameters."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from rl_reasoning import keys
from rl_reasoning.config import Code as CodeSettings
from rl_reasoning.config import Experiment, Model
from rl_reasoning.config import Verifier as VerifierSettings
from rl_reasoning.data import text
from rl_reasoning.data.maths import DataReport, load_maths
from rl_reasoning.edge import ConfigError
from rl_reasoning.loop.shares import SharedVerifier
from rl_reasoning.models import decoder
from rl_reasoning.models.architecture import DecoderConfig, LoRA, Precision
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.models.parts import check_blocks
from rl_reasoning.parallel import ONE_PART, Layout, Shards, make_layouts
from rl_reasoning.parallel.hosts import ALONE, Alone, Hosts
from rl_reasoning.parallel.rules import TENSOR
from rl_reasoning.reporting.console import say
from rl_reasoning.rollouts import Policy, longest_prompt
from rl_reasoning.sampling.engine import Engine, JaxEngine
from rl_reasoning.tasks import Language, Task
from rl_reasoning.tasks.arithmetic import Arithmetic
from rl_reasoning.tasks.code.sandbox import LEVELS, SandboxError
from rl_reasoning.tasks.code.task import Code
from rl_reasoning.tasks.countdown import Countdown
from rl_reasoning.tasks.gym import Gym
from rl_reasoning.tasks.gym_language import GymLanguage
from rl_reasoning.tasks.maths.task import Math
from rl_reasoning.tasks.own import OwnTask, load_function
from rl_reasoning.tasks.planning import worlds
from rl_reasoning.tasks.pool import InProcess, PoolError, Verifier, VerifierPool
from rl_reasoning.tokenizers import Tokenizer
from rl_reasoning.tokenizers.chat import FORMATS
from rl_reasoning.tokenizers.prompts import PromptTokenizer
from rl_reasoning.types import Problem

USUAL_FACTS = ("level", "subject", "type")


First = Callable[[Layout | None], Parameters]  # makes a run's first parameters, on these devices


@dataclasses.dataclass(frozen=True)
class Lab:
    """What stays the same through a run.

    Attributes:
      train, held_out: the problems that are trained on, and those that are evaluated.
      verifier: what scores answers; it may hold processes, which its `close` ends.
      first: makes the parameters that the run starts from, before any warm start and without adapters.
      data: what was found in the files that the problems come from, where they come from files.
      hosts: this process among those of its job.
    """

    experiment: Experiment
    task: Task
    policy: Policy
    verifier: Verifier
    train: Sequence[Problem]
    held_out: tuple[Problem, ...]
    first: Callable[[], Parameters]
    data: DataReport | None = None
    hosts: Hosts | Alone = ALONE

    @property
    def layout(self) -> Layout | None:
        """The devices that train, and what lies where on them; None when one does it all."""
        return self.policy.layout

    @property
    def shards(self) -> Shards:
        """Into how many parts devices split a batch."""
        return self.layout.shards if self.layout else ONE_PART


def build(experiment: Experiment, hosts: Hosts | Alone = ALONE) -> Lab:
    """Makes the task and the policy of an experiment.

    Args: hosts: the processes that do it together.

    Raises:
      ConfigError: settings that do not fit together, or a model that cannot be read.
    """
    try:
        text.require_files(experiment.warm_start.text)  # a file that is not there is named now
        task = make_task(experiment)
        _check_platform(experiment.model)
        config, tokenizer, first = _model(experiment, task)
        layout, sampler = make_layouts(experiment.mesh, config.sizes)
        _check_all_devices(layout, hosts)
        _check_overlap(experiment, layout, sampler)
        check_blocks(config.mlp, experiment.rl.mlp_blocks, layout.mesh.shape[TENSOR] if layout else 1)
        engine = make_engine(experiment.engine, config, tokenizer, sampler or layout)
        data = None
        if isinstance(task, Math):
            task, data = load_maths(experiment.task.math, lambda problem: longest_prompt(tokenizer, [problem]))
        evaluation = experiment.evaluation
        held_out = task.held_out_problems(evaluation.first + evaluation.problems, seed=0)[evaluation.first:]
        train = task.train_problems()
        experiment = _with_facts(experiment, held_out)
        room = longest_prompt(tokenizer, [*train, *held_out])
        _check_room(experiment, config, room)
        verifier = make_verifier(task, experiment.verifier)
        verifier = SharedVerifier(verifier, hosts) if isinstance(hosts, Hosts) else verifier
    except (ValueError, FileNotFoundError, ImportError, PoolError, SandboxError) as error:
        raise ConfigError(str(error)) from error
    return Lab(experiment, task, Policy(config, tokenizer, room, engine, layout, sampler), verifier, train, held_out,
               functools.partial(first, layout), data, hosts)


def _check_platform(model: Model) -> None:
    """A kernel for TPUs would be found out by the compiler, after everything else was prepared."""
    platform = jax.default_backend()
    for name in ("attention", "decode_attention"):
        if platform != "tpu" and (chosen := getattr(model, name)) not in ("xla", "auto"):
            raise ValueError(f"model.{name}={chosen!r} is a kernel for TPUs only, and the devices here are {platform}: "
                             "give xla or auto; scripts/plan.py compiles either for a TPU slice on any machine")


def _check_all_devices(layout: Layout | None, hosts: Hosts | Alone) -> None:
    """A process whose devices do nothing would wait for no collective, and the others for it."""
    used = layout.mesh.size if layout else 1
    if hosts.count > 1 and used != jax.device_count():
        raise ValueError(f"mesh: {used} of the {jax.device_count()} devices of {hosts.count} processes; several "
                         "processes need a mesh of all, as with --config.mesh.fsdp=0")


def _check_overlap(experiment: Experiment, layout: Layout | None, sampler: Layout | None) -> None:
    """Two programs whose devices wait for one another, begun in two threads, can each have a part of them for ever."""
    if experiment.rl.stale and layout and not sampler:
        raise ValueError(f"rl.stale={experiment.rl.stale}: sampler and trainer cannot be at work at once on the same "
                         f"{layout.mesh.size} devices: give the sampler its own, as in --config.mesh.sampler=1, or "
                         "rl.stale=0")


def _with_facts(experiment: Experiment, problems: Sequence[Problem]) -> Experiment:
    """The experiment with all facts by which its evaluation is broken down, the usual ones included.

    Raises ConfigError when one is asked for that some problem does not have.
    """
    known, evaluation = set.intersection(*(set(problem.metadata) for problem in problems)), experiment.evaluation
    for name in evaluation.by:
        if name not in known:
            raise ConfigError(f"config.evaluation.by = {name!r}: must be a fact that every held-out problem has; "
                              f"there are {', '.join(sorted(known)) or 'none'}")
    names = dict.fromkeys((*evaluation.by, *(name for name in USUAL_FACTS if name in known)))
    return dataclasses.replace(experiment, evaluation=dataclasses.replace(evaluation, by=tuple(names)))


def make_task(experiment: Experiment) -> Task:
    """The task without what it reads from files."""
    settings = experiment.task
    gym: Callable[[Any], Task] = GymLanguage if experiment.model.source == "random" else Gym
    kinds: dict[str, Callable[[Any], Task]] = {
        "countdown": Countdown, "arithmetic": Arithmetic, "math": Math, "code": make_code, "path": worlds.path,
        "blocksworld": worlds.blocksworld, "gym": gym, "own": OwnTask}
    return kinds[settings.kind](getattr(settings, settings.kind))


def make_code(settings: CodeSettings) -> Task:
    """The code task, with a word on how safely its programs run and on the rows that are no problems."""
    task = Code(settings)
    say(f"code sandbox: isolation level {task.level}")
    if task.level == "none":
        Console(stderr=True).print("WARNING: programs that the policy writes run without isolation, with your rights",
                                   style="bold white on red", soft_wrap=True)
    for line, why in task.file.skipped[:10]:
        say(f"{settings.path}, line {line} skipped: {why}")
    if task.file.skipped:
        say(f"{settings.path}: {len(task.file.skipped)} rows skipped, {len(task.file.problems)} problems read")
    return task


def make_verifier(task: Task, settings: VerifierSettings) -> Verifier:
    """The task's verifier in this process when the task says that it may be, else a pool of processes.

    Raises:
      PoolError, ValueError: see `VerifierPool`.
    """
    if getattr(task, "in_process", False) and not settings.function:
        return InProcess(task)
    facts = {"verifier/isolation_level": float(LEVELS.index(task.level))} if isinstance(task, Code) else {}
    return VerifierPool(task, settings, facts)


def make_engine(name: str, config: DecoderConfig, tokenizer: Tokenizer, layout: Layout | None) -> Engine:
    """What the user's own module:function makes; without a name the engine here.

    Raises ConfigError when there is no such function, it fails, or what it makes is no `Engine`.
    """
    if not name:
        return JaxEngine(config, tokenizer.eos_id, tokenizer, layout=layout)
    try:
        engine: Engine = load_function(name)(config, tokenizer, layout)
    except Exception as error:
        raise ConfigError(f"config.engine = {name!r}: {type(error).__name__}: {error}") from error
    missing = [member for member in ("generate", "counts", "fingerprint") if not hasattr(engine, member)]
    if missing:
        raise ConfigError(f"config.engine = {name!r}: returned a {type(engine).__name__} without "
                          f"{', '.join(missing)}; see rl_reasoning.sampling.engine.Engine for what an engine has")
    try:
        inspect.signature(engine.generate).bind(*["_"] * 5, numbers=None, first=0)
    except TypeError as error:
        raise ConfigError(f"config.engine = {name!r}: its generate cannot be called as generate(parameters, prompts, "
                          f"counts, settings, key, numbers=..., first=...): {error}") from error
    return engine


def _model(experiment: Experiment, task: Task) -> tuple[DecoderConfig, Tokenizer, First]:
    """The decoder, its tokenizer, and what makes its first parameters, which have no adapters yet."""
    settings, warm_start = experiment.model, experiment.warm_start
    if settings.source != "random":
        read = _pretrained(experiment)
        if warm_start.updates and not warm_start.text and not isinstance(task, Language):
            raise ConfigError(f"warm_start.steps={warm_start.steps} and refine_steps={warm_start.refine_steps} must be "
                              f"0: task.kind={task.name!r} has no traces to train on; or give warm_start.text")
        return read
    if not isinstance(task, Language):
        raise ConfigError(f"model.source='random' has no words for task.kind={task.name!r}: give a pre-trained model, "
                          "as in experiments/configs/smollm2.py")
    tokenizer = task.tokenizer()
    config = typed(experiment, _sizes(settings, tokenizer.vocabulary_size))
    key = keys.derive(experiment.seed, keys.Role.INITIALIZE, 0)
    return config, tokenizer, lambda layout: decoder.initialize(config.plain(), key)


def _pretrained(experiment: Experiment) -> tuple[DecoderConfig, Tokenizer, First]:
    from rl_reasoning.models import gguf, hf, hf_config, pretrained
    from rl_reasoning.tokenizers.byte_bpe import ByteBPE
    from rl_reasoning.tokenizers.folder import read_tokenizer

    settings = experiment.model
    path = pretrained.resolve_source(settings.source)
    tokenizer: PromptTokenizer
    read: Callable[..., Parameters]
    if path.is_dir():
        config, tokenizer, read = hf_config.read_config(path), read_tokenizer(path), hf.read_parameters
    else:
        config, tokenizer, read = gguf.read_config(path), ByteBPE.from_gguf(path), gguf.read_parameters
    if tokenizer.vocabulary_size > config.vocabulary:
        raise ValueError(f"{path}: the tokenizer has ids up to {tokenizer.vocabulary_size - 1}, and the model "
                         f"{config.vocabulary} rows; they are not of the same model")
    if settings.prompt != "template":
        tokenizer = tokenizer.with_template(FORMATS[settings.prompt])
    config = typed(experiment, config)
    first = config.plain() if experiment.warm_start.updates else config
    return config, tokenizer, functools.partial(_weights, read, path, first)


def _weights(read: Callable[..., Parameters], path: Path, config: DecoderConfig, layout: Layout | None) -> Parameters:
    """The parameters of a model file or folder, each on its devices before the next is read.

    Raises ConfigError when the file is damaged or not what it says.
    """
    try:
        return read(path, config, layout and layout.place_one)
    except (ValueError, OSError, ImportError) as error:
        raise ConfigError(str(error)) from error


def typed(experiment: Experiment, config: DecoderConfig, platform: str = "") -> DecoderConfig:
    """The decoder with the settings' number types, adapters and kernels.

    Args: platform: of the devices it will run on; by default those here.
    Raises: ValueError: a kernel cannot do it.
    """
    settings, tpu = experiment.model, (platform or jax.default_backend()) == "tpu"
    splash = tpu and experiment.mesh.context == 1 and not any(config.windows)
    rows, decoding = settings.attention, settings.decode_attention
    rows = rows if rows != "auto" else "splash" if splash else "xla"
    decoding = decoding if decoding != "auto" else "kernel" if tpu else "xla"
    adapters = LoRA(**dataclasses.asdict(settings.lora)) if settings.lora.rank else None
    return dataclasses.replace(config, precision=Precision(**dataclasses.asdict(settings.precision)), lora=adapters,
                               attention=rows, decode_attention=decoding)


def _sizes(model: Model, vocabulary: int) -> DecoderConfig:
    return DecoderConfig(vocabulary, model.layers, model.width, model.heads, model.kv_heads, model.head_dim, model.mlp,
                         norms=model.norms, qk_norm=model.qk_norm)


def _check_room(experiment: Experiment, config: DecoderConfig, prompt: int) -> None:
    longest = prompt + max(experiment.rl.max_tokens, experiment.evaluation.sampling.max_tokens)
    if longest > config.context:
        raise ValueError(f"the longest prompt has {prompt} tokens, which makes {longest} with an answer; the model was "
                         f"made for {config.context}: lower rl.max_tokens or evaluation.sampling.max_tokens")
    if experiment.warm_start.text and experiment.warm_start.window > config.context:
        raise ValueError(f"warm_start.window={experiment.warm_start.window}: the model was made for {config.context} "
                         "tokens; give at most that")
    row = experiment.rl.row_length
    if row and row < prompt + experiment.rl.max_tokens:
        raise ValueError(f"rl.row_length={row}: the longest prompt with an answer has up to "
                         f"{prompt + experiment.rl.max_tokens} tokens; give at least that, or 0")
