"""An experiment's settings: frozen dataclasses, one for each part, read once at the edge.

A config file (`experiments/configs/*.py`) gives a `ml_collections.ConfigDict`; `rl_reasoning.edge`
checks it against these classes and builds an `Experiment`. Each field says what is allowed, so the
error for a bad value can say it too. This module imports no jax: a typo must cost a second.
"""

import dataclasses
from typing import Any

from rl_reasoning.config.asking import LATENT_METHODS, Evaluation, Latent, Sampling
from rl_reasoning.config.policy import Distributed, LoRA, Mesh, Model, Precision
from rl_reasoning.config.setting import setting
from rl_reasoning.config.tasks import (
    FUNCTION_NAME,
    Arithmetic,
    Blocksworld,
    Code,
    Countdown,
    Gym,
    Math,
    Own,
    Path,
    Task,
    Verifier,
)
from rl_reasoning.config.training import RL, Checkpoint, Optimizer, WarmStart, Watch

__all__ = [
    "FUNCTION_NAME", "LATENT_METHODS", "RL", "Arithmetic", "Blocksworld", "Checkpoint", "Code", "Countdown",
    "Distributed", "Evaluation", "Experiment", "Gym", "Latent", "LoRA", "Math", "Mesh", "Model", "Optimizer", "Own",
    "Path", "Precision", "Sampling", "Task", "Verifier", "WarmStart", "Watch", "setting",
]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything a run needs."""

    name: str = setting("countdown", doc="names the run folder and the report")
    mode: str = setting("train", choices=("train", "compare", "evaluate", "latent_search", "list"),
                        doc="one algorithm, several, answers without training, a search for better ones without "
                        "training, or a table of all algorithms")
    algorithm: str = setting("w_reinforce", doc="an entry of rl_reasoning.algorithms")
    objective: dict[str, Any] = setting({}, doc="changes to the algorithm's own options")
    engine: str = setting("", doc="module:function (config, tokenizer, layout) -> the Engine that samples; empty is "
                          "the one here")
    compare: tuple[str, ...] = setting((), doc="the algorithms of mode compare, run one after another")
    seed: int = setting(0, low=0, high=2**31 - 1, doc="everything random derives from it")
    workdir: str = setting("runs", doc="where run folders and the kept base go")
    resume: str = setting("auto", choices=("auto", "never", "always"),
                          doc="auto goes on with an unfinished run of the same settings; always refuses to begin anew")
    resume_changed: bool = setting(False, doc="go on though settings, data, tokenizer or code have changed; the "
                                   "changes are written to changes.jsonl")
    wandb: str = setting("", doc="a project of Weights & Biases that gets the metrics too, where wandb is installed")
    task: Task = dataclasses.field(default_factory=Task)
    verifier: Verifier = dataclasses.field(default_factory=Verifier)
    model: Model = dataclasses.field(default_factory=Model)
    warm_start: WarmStart = dataclasses.field(default_factory=WarmStart)
    rl: RL = dataclasses.field(default_factory=RL)
    evaluation: Evaluation = dataclasses.field(default_factory=Evaluation)
    latent: Latent = dataclasses.field(default_factory=Latent)
    checkpoint: Checkpoint = dataclasses.field(default_factory=Checkpoint)
    watch: Watch = dataclasses.field(default_factory=Watch)
    mesh: Mesh = dataclasses.field(default_factory=Mesh)
    distributed: Distributed = dataclasses.field(default_factory=Distributed)
