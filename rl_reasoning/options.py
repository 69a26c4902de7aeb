"""Options of an algorithm by name: what `--config.objective.NAME=VALUE` can change, checked before anything runs."""

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from rl_reasoning.advantages import AdvantageInputs
from rl_reasoning.algorithms import ALGORITHMS, Algorithm
from rl_reasoning.allocation import Gvm, Plan
from rl_reasoning.config import RL, Experiment
from rl_reasoning.losses.objective import LossInputs, look_ahead, objective_loss, totals
from rl_reasoning.losses.surrogate import SurrogateInputs

FUNCTIONS = ("advantage", "surrogate")
PLAIN = ("aggregation", "entropy", "supervised")
RECORDS = ("plan", "shaping", "kl", "tokens", "mismatch", "replay", "critic")


def resolve(name: str, overrides: Mapping[str, Any]) -> Algorithm:
    """The entry of a name, with some of its options changed.

    Args:
      overrides: option -> value; `options` lists them.

    Raises:
      ValueError: no such algorithm, no such option, or a value that the option does not allow.
    """
    if name not in ALGORITHMS:
        raise ValueError(f"algorithm={name!r} is not known; did you mean {_nearest(name, ALGORITHMS)}? There are "
                         f"{', '.join(sorted(ALGORITHMS))}")
    algorithm = ALGORITHMS[name]
    known = options(algorithm)
    for option, value in overrides.items():
        if option not in known:
            raise ValueError(f"objective.{option}={value!r}: {_why_not(name, algorithm, option, known)}. It takes "
                             f"{', '.join(sorted(known))}")
    given = {option: _coerce(name, option, known[option], value) for option, value in overrides.items()}
    algorithm = _changed(algorithm, given)
    _try(algorithm)
    return algorithm


def of_run(name: str, experiment: Experiment) -> Algorithm:
    """The entry of a name as a run trains by it: with the settings' options, and with answers of an earlier policy
    weighted by truncated ratios unless the options name another correction.

    Raises: see `resolve`.
    """
    overrides = experiment.objective
    if experiment.rl.stale and not {"mismatch_level", "mismatch_reject"} & overrides.keys():
        overrides = {"mismatch_level": "token", **overrides}
    return resolve(name, overrides)


def _why_not(name: str, algorithm: Algorithm, option: str, known: Mapping[str, Any]) -> str:
    """Why an entry does not have an option; refilling and GVM are two plans, and an algorithm has one."""
    other: type[Plan] | type[Gvm]
    if isinstance(algorithm.plan, Gvm):
        other, words = Plan, ("shares its answers out by GVM, and does not refill with more problems; choose an "
                              "algorithm that gives every problem as many, such as grpo")
    else:
        other, words = Gvm, ("gives every problem as many answers; choose one that shares them out by GVM, such as "
                             "gvm_grpo")
    if option in {f"plan_{field.name}" for field in dataclasses.fields(other)}:
        return f"{name} {words}"
    return f"{name} has no such option; did you mean {_nearest(option, known)}?"


CODE_REWARDS = {"binary": "binary", "rate": "unit", "klear": "any"}  # what `task.code.reward` may give


def check(name: str, algorithm: Algorithm, experiment: Experiment) -> None:
    """Raises ValueError where the algorithm and the settings of its run do not fit together.

    Rewards of a verifier that the settings name cannot be known here; they are checked as they come.
    """
    rl, code = experiment.rl, experiment.task.code.reward
    if experiment.task.kind == "code" and not experiment.verifier.function:
        allowed = {"any": ("binary", "unit", "any"), "unit": ("binary", "unit"), "binary": ("binary",)}
        if CODE_REWARDS[code] not in allowed[algorithm.rewards]:
            raise ValueError(f"task.code.reward={code!r}: {name} is defined on {algorithm.rewards} rewards; choose "
                             "task.code.reward=binary, or an algorithm for graded rewards such as grpo")
    if algorithm.compares and rl.samples < 2:
        raise ValueError(f"rl.samples={rl.samples}: {name} compares the answers to one problem; give at least 2")
    _check_plan(algorithm, rl)
    lost = [need for need in algorithm.needs if need in ("greedy_rewards", "reward_components")]
    if algorithm.replay.on and lost:
        raise ValueError(f"objective.replay_groups={algorithm.replay.groups}, replay_positives="
                         f"{algorithm.replay.positives}: {name} needs {lost[0]}, which are not kept of earlier steps; "
                         "give 0")
    if rl.stale:
        _check_stale(name, algorithm, rl)
    buffer = algorithm.shaping.overlong_buffer
    if buffer > rl.max_tokens:
        raise ValueError(f"objective.shaping_overlong_buffer={buffer} is longer than an answer may be; give at most "
                         f"rl.max_tokens={rl.max_tokens}")


def _check_stale(name: str, algorithm: Algorithm, rl: RL) -> None:
    """What is drawn ahead cannot know what comes of the updates meanwhile."""
    if isinstance(algorithm.plan, Gvm):
        raise ValueError(f"rl.stale={rl.stale}: {name} shares answers out by gradients of the policy as it is trained; "
                         "give rl.stale=0, or an algorithm that gives every problem as many, such as grpo")
    if algorithm.replay.on:
        raise ValueError(f"rl.stale={rl.stale}: objective.replay_groups={algorithm.replay.groups}, replay_positives="
                         f"{algorithm.replay.positives} weigh earlier answers by the policy of their step, and these "
                         "are of policies before that; give rl.stale=0, or no replay")


def _check_plan(algorithm: Algorithm, rl: RL) -> None:
    plan = algorithm.plan
    if isinstance(plan, Plan):
        if plan.refill and rl.samples < 2:
            raise ValueError(f"rl.samples={rl.samples}: objective.plan_refill={plan.refill} keeps groups whose "
                             "rewards differ; give at least 2 answers, or plan_refill=0")
        return
    if plan.minimum > rl.samples:
        raise ValueError(f"objective.plan_minimum={plan.minimum} answers to every problem are more than there are, "
                         f"rl.prompts * rl.samples; give at most rl.samples={rl.samples}")
    if plan.keep and plan.draws > rl.samples:
        raise ValueError(f"objective.plan_draws={plan.draws}: with plan_keep these answers are part of rl.samples="
                         f"{rl.samples} a problem; give at most that")


def options(algorithm: Algorithm) -> dict[str, Any]:
    """Every option of an entry with its value: the keywords of its advantage and surrogate, its own numbers, and the
    fields of its records under the record's name (`kl_coefficient`).
    """
    found = {option: value for part in FUNCTIONS for option, value in _keywords(getattr(algorithm, part)).items()}
    found |= {option: getattr(algorithm, option) for option in PLAIN}
    return found | {f"{record}_{field}": getattr(getattr(algorithm, record), field)
                    for record, field in _record_fields(algorithm)}


def table() -> str:
    """All algorithms, one a line: advantage, surrogate, averaging, what it adds, paper."""
    rows = [("algorithm", "advantage", "surrogate", "averaging", "adds", "paper")]
    rows += [(name, _call(entry.advantage), _call(entry.surrogate), entry.aggregation, _additions(entry), entry.paper)
             for name, entry in ALGORITHMS.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]])
                     for row in rows)


def _record_fields(algorithm: Algorithm) -> Iterator[tuple[str, str]]:
    for record in RECORDS:
        if getattr(algorithm, record) is not None:
            yield from ((record, field.name) for field in dataclasses.fields(getattr(algorithm, record)))


def _keywords(function: Callable[..., Any]) -> dict[str, Any]:
    """The keyword-only options of a function, those of a partial with the values it fixes."""
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY}


def _changed(algorithm: Algorithm, given: Mapping[str, Any]) -> Algorithm:
    """All options at once, so that a record is checked as a whole."""
    changes: dict[str, Any] = {option: value for option, value in given.items() if option in PLAIN}
    for part in FUNCTIONS:
        function = getattr(algorithm, part)
        own = {option: given[option] for option in _keywords(function).keys() & given.keys()}
        if own:
            changes[part] = functools.partial(function, **own)
    for record in RECORDS:
        own = {field: given[f"{record}_{field}"] for name, field in _record_fields(algorithm)
               if name == record and f"{record}_{field}" in given}
        if own:
            changes[record] = dataclasses.replace(getattr(algorithm, record), **own)
    return dataclasses.replace(algorithm, **changes)


def _coerce(name: str, option: str, default: Any, value: Any) -> Any:
    """The value as the option's type: whole numbers are taken for fractions, and None stands for an open number."""
    if isinstance(value, int) and not isinstance(value, bool) and (default is None or isinstance(default, float)):
        return float(value)
    fits = isinstance(value, (float, tuple, type(None))) if default is None else type(value) is type(default)
    if not fits:
        kind = "number, a tuple of numbers or None" if default is None else type(default).__name__
        raise ValueError(f"objective.{option}={value!r} of {name} must be a {kind}, such as {default!r}")
    return value


def _try(algorithm: Algorithm) -> None:
    """Traces the entry on two answers of two tokens, so that each function judges its own options now."""
    rows, square = jnp.zeros(2), jnp.zeros((2, 2))
    mask, ids = square > -1, jnp.zeros(2, jnp.int32)
    weights = algorithm.advantage.keywords.get("component_weights") if isinstance(
        algorithm.advantage, functools.partial) and "reward_components" in algorithm.needs else None
    jax.eval_shape(algorithm.advantage, AdvantageInputs(
        rows, ids, ids, mask, square, square, rows, jnp.zeros((2, len(weights or (1, 1)))), square, square))
    inputs = SurrogateInputs(square, square, square, mask, ids, rows, square, square, key=jax.random.key(0))
    objective = algorithm.objective(2, reference=True)

    def loss(inputs: SurrogateInputs) -> jax.Array:
        selected, teaches = look_ahead(objective, inputs)
        parts = LossInputs(inputs._replace(selected=selected), mask, square, square, square, square, square, square,
                           teaches)
        return objective_loss(objective, parts, totals(objective, square, mask, rows))[0]

    jax.eval_shape(loss, inputs)


def _call(function: Callable[..., Any]) -> str:
    if isinstance(function, functools.partial):
        return f"{function.func.__name__}({', '.join(f'{k}={v}' for k, v in function.keywords.items())})"
    return function.__name__


def _additions(algorithm: Algorithm) -> str:
    """What distinguishes the entry beyond advantage, surrogate and averaging."""
    plan = algorithm.plan
    parts = ["answers by GVM"] if isinstance(plan, Gvm) else [f"plan_refill={plan.refill}"] if plan.refill else []
    parts += [f"critic on a {algorithm.critic.model}"] if algorithm.critic else []
    return ", ".join([*parts, *(f"needs {need}" for need in algorithm.needs if need != "values")]) or "-"


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    return max(known, key=lambda other: difflib.SequenceMatcher(None, name, other).ratio())
