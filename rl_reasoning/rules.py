"""What settings must be to one another: values that are each allowed, and do not go together."""

import re
from collections.abc import Iterator
from typing import Any

from rl_reasoning.config import FUNCTION_NAME, LATENT_METHODS, Experiment

Broken = Iterator[tuple[str, Any, str]]


def broken_rules(experiment: Experiment) -> Broken:
    """What does not fit together, as (dotted key, value, what is allowed)."""
    yield from _broken_model_rules(experiment)
    yield from _broken_task_rules(experiment)
    if experiment.mode == "latent_search":
        yield from _broken_latent_rules(experiment)
    rl, repeated = experiment.rl, len(set(experiment.compare)) < len(experiment.compare)
    if rl.prompts % rl.minibatches:
        yield "rl.minibatches", rl.minibatches, f"must divide rl.prompts = {rl.prompts}"
    elif (rl.prompts // rl.minibatches) % rl.microbatches:
        yield ("rl.microbatches", rl.microbatches,
               f"must divide the {rl.prompts // rl.minibatches} prompts of a mini-batch (rl.prompts / rl.minibatches)")
    if experiment.mode == "compare" and not experiment.compare:
        yield "compare", experiment.compare, "mode compare needs names of algorithms, as in --config.compare=psr,nsr"
    evaluation = experiment.evaluation
    if evaluation.run and experiment.mode not in ("evaluate", "latent_search"):
        yield ("evaluation.run", evaluation.run, "is read in modes evaluate and latent_search alone: give "
               "--config.mode=evaluate")
    if experiment.resume_changed and (experiment.mode == "compare" or experiment.resume == "never"):
        yield ("resume_changed", True, f"needs one run to go on with, and there is none with mode = "
               f"{experiment.mode!r} and resume = {experiment.resume!r}")
    if experiment.engine and not re.fullmatch(FUNCTION_NAME, experiment.engine):
        yield "engine", experiment.engine, "must be module:function, such as my_engine:make"
    if repeated:
        yield "compare", experiment.compare, "names an algorithm twice; each may come once"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", experiment.name):
        yield "name", experiment.name, "must be letters, digits, '.', '_' and '-', since it names a folder"
    mesh = experiment.mesh
    if [mesh.data, mesh.fsdp, mesh.tensor, mesh.context].count(0) > 1:
        yield "mesh", "two axes of 0", "at most one axis may be 0, which is as many devices as the others leave"
    if mesh.sampler % mesh.sampler_tensor:
        yield ("mesh.sampler_tensor", mesh.sampler_tensor,
               f"must divide mesh.sampler = {mesh.sampler}, the devices that only sample")
    if mesh.context != 1 and experiment.model.attention == "splash":
        yield ("mesh.context", mesh.context, "must be 1 with model.attention = splash, whose kernel reads whole rows; "
               "give model.attention=xla")
    yield from _broken_distributed_rules(experiment)
    for key, text in (("algorithm", experiment.algorithm), ("workdir", experiment.workdir)):
        if not text.strip():
            yield key, text, "must not be empty"


def _broken_distributed_rules(experiment: Experiment) -> Broken:
    settings = experiment.distributed
    if not settings.coordinator:
        if settings.processes > 1:
            yield ("distributed.processes", settings.processes, "needs distributed.coordinator, as HOST:PORT of "
                   "process 0, or auto on a TPU pod")
        return
    if settings.coordinator != "auto" and not re.fullmatch(r"\S+:\d{1,5}", settings.coordinator):
        yield "distributed.coordinator", settings.coordinator, "must be HOST:PORT, or auto"
    if settings.process >= settings.processes:
        yield ("distributed.process", settings.process, f"must be below distributed.processes = {settings.processes}; "
               "the first is 0")
    if experiment.mode not in ("train", "compare"):
        yield "mode", experiment.mode, "is done by one process: leave distributed.coordinator empty"
    for key, value in (("rl.stale", experiment.rl.stale), ("mesh.sampler", experiment.mesh.sampler)):
        if value:
            yield key, value, "must be 0 with distributed.coordinator: one process overlaps sampling and training"


def _broken_model_rules(experiment: Experiment) -> Broken:
    model = experiment.model
    if model.heads % model.kv_heads:
        yield "model.kv_heads", model.kv_heads, f"must divide model.heads = {model.heads}"
    if model.head_dim % 2:
        yield "model.head_dim", model.head_dim, "must be even, since rotary embeddings turn pairs of dimensions"
    if not model.source.strip():
        yield "model.source", model.source, "must be random, a GGUF file or package, a Hugging Face folder, or hf:NAME"
    if model.precision.parameters == "int8" and not model.lora.rank:
        yield ("model.precision.parameters", "int8", "cannot be trained; give adapters, as in model.lora.rank=16, or "
               "use bfloat16")


def _broken_latent_rules(experiment: Experiment) -> Broken:
    latent, sampling = experiment.latent, experiment.evaluation.sampling
    for name in latent.methods or ("",):
        if name not in LATENT_METHODS or latent.methods.count(name) > 1:
            yield "latent.methods", latent.methods, f"must be some of {', '.join(LATENT_METHODS)}, each at most once"
    if latent.fraction * sampling.max_tokens < 1:
        yield ("latent.fraction", latent.fraction, f"must be at least {1 / sampling.max_tokens:.3g}, one token of "
               f"evaluation.sampling.max_tokens = {sampling.max_tokens}")
    drawing = {"best_of", "greedy_best_of", "majority"} & set(latent.methods)
    if sampling.temperature == 0 and drawing:
        yield ("evaluation.sampling.temperature", 0.0, "must be above 0, since several answers are drawn for "
               f"latent.methods {', '.join(sorted(drawing))}")
    if latent.reward == "self" and experiment.model.source == "random":
        yield ("latent.reward", "self", "asks the policy in words, and one from random weights has none: give a model, "
               "as in experiments/configs/smollm2.py, or another reward")
    for key in ("begin_with", "min_tokens", "stop", "stop_tokens", "forbidden_tokens"):
        if getattr(sampling, key) and {"latent", "noise"} & set(latent.methods):
            yield (f"evaluation.sampling.{key}", getattr(sampling, key), "is not known to the methods latent and "
                   "noise: leave it out, or them")


def _broken_math_rules(experiment: Experiment) -> Broken:
    settings = experiment.task.math
    if experiment.task.kind == "math":
        # What is evaluated needs nothing to train on.
        for key in ("held_out",) if experiment.mode == "evaluate" else ("train", "held_out"):
            if not getattr(settings, key):
                yield f"task.math.{key}", getattr(settings, key), "must name at least one file or data set"
    if settings.weights and len(settings.weights) != len(settings.train):
        yield "task.math.weights", settings.weights, f"must be one for each of {len(settings.train)} training sources"
    if len(set(settings.train)) < len(settings.train):
        yield "task.math.train", settings.train, "names a source twice; give it a weight instead"
    for weight in settings.weights:
        if not re.fullmatch(r"\d{1,6}(\.\d+)?|\.\d+", weight) or float(weight) == 0:
            yield "task.math.weights", settings.weights, f"must be numbers above 0, and {weight!r} is not"


def _broken_task_rules(experiment: Experiment) -> Broken:
    yield from _broken_math_rules(experiment)
    countdown, arithmetic = experiment.task.countdown, experiment.task.arithmetic
    if experiment.task.kind == "countdown":
        # A step is `a op b = c`, five tokens, and an end-of-sequence token closes the answer.
        needed = 5 * (countdown.numbers - 1) + 1
        for key, value in (("rl.max_tokens", experiment.rl.max_tokens),
                           ("evaluation.sampling.max_tokens", experiment.evaluation.sampling.max_tokens)):
            if value < needed:
                yield key, value, f"must be at least {needed}, the answer to {countdown.numbers} numbers"
    if countdown.low > countdown.high:
        yield "task.countdown.low", countdown.low, f"must be at most task.countdown.high = {countdown.high}"
    if countdown.high > countdown.limit:
        yield ("task.countdown.limit", countdown.limit,
               f"must be at least task.countdown.high = {countdown.high}, since the numbers are values too")
    operations = countdown.operations
    if not operations or set(operations) - set("+-*/") or len(set(operations)) < len(operations):
        yield "task.countdown.operations", operations, "must be some of + - * /, each at most once and without spaces"
    code, seconds = experiment.task.code, experiment.verifier.seconds
    if experiment.task.kind == "code" and not code.path.strip():
        yield "task.code.path", code.path, "must name a file of problems, as in experiments/configs/code.py"
    if experiment.task.kind == "code" and seconds < 2 * code.seconds + 5:
        yield ("verifier.seconds", seconds, f"must be at least {2 * code.seconds + 5:g}, what a program of "
               f"task.code.seconds = {code.seconds:g} may take on the clock and a little more")
    if experiment.task.kind == "code" and experiment.verifier.memory < code.memory:
        yield "verifier.memory", experiment.verifier.memory, f"must be at least task.code.memory = {code.memory}"
    if experiment.task.kind == "own":
        if not re.fullmatch(FUNCTION_NAME, experiment.task.own.problems):
            yield "task.own.problems", experiment.task.own.problems, "must be module:function, such as my_task:problems"
        if not experiment.verifier.function:
            yield "verifier.function", "", "must be module:function with task.kind = own, such as my_task:score"
    if experiment.verifier.function and not re.fullmatch(FUNCTION_NAME, experiment.verifier.function):
        yield "verifier.function", experiment.verifier.function, "must be module:function, such as my_reward:score"
    if arithmetic.digits_low > arithmetic.digits_high:
        yield ("task.arithmetic.digits_low", arithmetic.digits_low,
               f"must be at most task.arithmetic.digits_high = {arithmetic.digits_high}")
