"""What a run is made of, as facts that can be compared: it goes on only as what it was."""

import dataclasses
import functools
import hashlib
import importlib.util
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import rl_reasoning
from rl_reasoning.config import Experiment
from rl_reasoning.loop.setup import Lab
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.parallel.exchange import fetch
from rl_reasoning.reporting.run_folder import differing_settings, installed_versions
from rl_reasoning.tokenizers import Tokenizer
from rl_reasoning.training import manifest
from rl_reasoning.types import Problem

# Settings that change nothing of what a run computes; another mesh adds up in another order.
FREE = ("workdir", "resume", "resume_changed", "checkpoint", "watch", "mesh", "wandb", "distributed")
COMPUTING = ("jax", "jaxlib", "numpy", "optax")


def settings(experiment: Experiment) -> dict[str, Any]:
    """The settings that decide what is computed, as nested mappings of JSON values."""
    kept = {name: value for name, value in dataclasses.asdict(experiment).items() if name not in FREE}
    return json.loads(json.dumps(kept))


def fingerprints(lab: Lab, base: Parameters) -> dict[str, Any]:
    """Settings and library versions by name, and digests of problems, tokenizer, code and base.

    Args: base: the policy that training starts from, which is the reference too.
    """
    return {"settings": settings(lab.experiment), "base": base_digest(base), **surroundings(lab)}


def surroundings(lab: Lab) -> dict[str, Any]:
    """What a run is made of beside its settings and its base: problems, tokenizer, code, libraries; JSON-able."""
    return {"data": problems_digest([*lab.train, *lab.held_out]), "tokenizer": tokenizer_digest(lab.policy.tokenizer),
            "verifier": module_digest(lab.experiment.verifier.function),
            "engine_module": module_digest(lab.experiment.engine), **program()}


def program() -> dict[str, Any]:
    """The code, and the libraries that it computes with."""
    return {"code": code_digest(), "versions": installed_versions(COMPUTING)}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Any]]:
    """{"rl.steps": [70, 80], "data": ["5d4...", "a01..."], ...}: what is not the same any more."""
    def flat(prints: Mapping[str, Any]) -> dict[str, Any]:
        return {**prints.get("settings", {}), **{name: value for name, value in prints.items() if name != "settings"}}

    return differing_settings([flat(before), flat(now)])


def words(changed: Mapping[str, list[Any]], most: int = 6) -> str:
    """Changes for people: "rl.steps 70 -> 80, data 5d41402a -> a01b9c22"."""
    parts = [f"{name} {_short(old)} -> {_short(new)}" for name, (old, new) in list(changed.items())[:most]]
    return ", ".join([*parts, f"and {len(changed) - most} more"] if len(changed) > most else parts)


def problems_digest(problems: Iterable[Problem]) -> str:
    """Of everything that the problems say."""
    said = hashlib.sha256()
    for problem in problems:
        facts = [getattr(problem, field.name) for field in dataclasses.fields(problem)]
        said.update(json.dumps(facts, sort_keys=True, default=_jsonable).encode())
    return said.hexdigest()


def _jsonable(value: Any) -> Any:
    """What is the same in every process: a set has no order, and an object's own text may hold its address."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.astuple(value)
    return type(value).__name__


def tokenizer_digest(tokenizer: Tokenizer) -> str:
    """Of every token's text, and of where an answer ends."""
    said = hashlib.sha256(f"{tokenizer.vocabulary_size} {tokenizer.eos_id}".encode())
    for number in range(tokenizer.vocabulary_size):
        said.update(tokenizer.decode([number]).encode(errors="surrogatepass") + b"\0")
    return said.hexdigest()


@functools.cache
def code_digest() -> str:
    """Of every module of the package."""
    root = Path(rl_reasoning.__file__).parent
    said = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        said.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return said.hexdigest()


def module_digest(function: str) -> str:
    """Of the file that a verifier or an engine of the user's own, module:function, is in; empty without one."""
    found = importlib.util.find_spec(function.split(":")[0]) if function else None
    return hashlib.sha256(Path(found.origin).read_bytes()).hexdigest() if found and found.origin else ""


def base_digest(base: Parameters) -> str:
    """Of every weight."""
    said = hashlib.sha256()
    for name, leaf in sorted(manifest.leaves(base).items()):
        said.update(f"{name} {manifest.digest(np.asarray(fetch(leaf)))}".encode())
    return said.hexdigest()


def _short(value: Any) -> str:
    text = str(value)
    return text[:8] if len(text) == 64 else text
