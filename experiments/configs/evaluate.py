"""Evaluation alone: answers of a policy, Pass@k for every k with intervals, majority votes, tables by level.

    python experiments/run.py --config=experiments/configs/evaluate.py:runs/countdown-nsr-seed0     # a run's last step
    RL_REASONING_DATA=FOLDER python experiments/run.py --config=experiments/configs/evaluate.py:rlvr_decomposed \
        --config.model.source=PATH/TO/HF_FOLDER
    python experiments/run.py --config=ANY.py --config.mode=evaluate [--config.evaluation.run=RUN]  # any problems

After the colon: a run's folder, which is asked the problems of that run; or a protocol, for any model on problems of
mathematics in FOLDER (see experiments/configs/math.py):

    rlvr_decomposed   arXiv 2506.01347: MATH's 5,000 test problems, 256 answers each, its prompt and its grader
    klear             arXiv 2508.07629: avg@64 on AIME 2025
    pacs              arXiv 2509.02522: 256 answers each to AIME 2025 and AMC 2023
    smollm2           SmolLM2-135M-Instruct, 4 answers each to 50 problems of MATH-500
    smoke             a handful of answers of SmolLM2-135M-Instruct

All draw at temperature 0.6 and top-p 0.95. Answers go to a folder below `workdir` as they come; the same command goes
on where it was stopped. scripts/score.py judges them again. The protocols at full size are work for accelerators.
"""

import json
import pathlib

from ml_collections import ConfigDict

from rl_reasoning import edge
from rl_reasoning.config import Experiment


def get_config(preset: str = "") -> ConfigDict:
    """The settings of one preset, or of the run whose folder it names."""
    settings = pathlib.Path(preset) / "config.json"
    if preset and settings.is_file():
        return of_run(preset, json.loads(settings.read_text("utf-8"))["config"])
    if preset != pathlib.Path(preset).name:
        raise edge.ConfigError(f"{preset} is no run folder: {settings} is not there; runs are below workdir, which is "
                               "runs/ unless told otherwise")
    config = edge.to_config_dict(Experiment())
    config.name = "maths"
    config.mode = "evaluate"

    # The policy: a Hugging Face folder, hf:OWNER/NAME, or a GGUF file; as it is.
    config.model.source = "smollm2-135m"
    config.warm_start.steps = 0
    config.warm_start.refine_steps = 0

    # The problems.
    config.task.kind = "math"
    config.task.math.held_out = ("math500.jsonl",)
    config.task.math.prompt = "boxed"
    config.task.math.grader = "math_verify"

    config.evaluation.problems = 500
    config.evaluation.samples = 256
    config.evaluation.batch = 256
    config.evaluation.sampling.temperature = 0.6
    config.evaluation.sampling.top_p = 0.95
    config.evaluation.sampling.max_tokens = 4096

    edge.apply_preset(config, preset, PRESETS)
    return config


def of_run(folder: str, settings: dict) -> ConfigDict:
    """The settings of a run, its policy asked the problems that it was evaluated on."""
    config = edge.to_config_dict(edge.read_experiment(settings))
    config.mode = "evaluate"
    config.evaluation.run = folder
    return config


def rlvr_decomposed(config: ConfigDict) -> None:
    """Its evaluation: 256 answers of up to 4,096 tokens, the last box judged by its lenient rules."""
    config.name = "rlvr-decomposed"
    config.model.prompt = "qwen_boxed"
    config.task.math.held_out = ("math/test.parquet",)
    config.task.math.prompt = "plain"
    config.task.math.answer_form = "boxed"
    config.task.math.grader = "math_equal"
    config.task.math.second_grader = "math_verify"
    config.evaluation.problems = 5000


def klear(config: ConfigDict) -> None:
    """avg@64, which is Pass@1 from 64 answers; the room for an answer is as much as the model's context allows."""
    config.name = "klear"
    config.task.math.held_out = ("aime2025/test.parquet",)
    config.evaluation.problems = 30
    config.evaluation.samples = 64
    config.evaluation.batch = 64
    config.evaluation.sampling.max_tokens = 30_000


def pacs(config: ConfigDict) -> None:
    """Its contests, on which Pass@k is told up to k = 256."""
    config.name = "pacs"
    config.task.math.held_out = ("aime2025/test.parquet", "amc23/test.parquet")
    config.evaluation.problems = 70
    config.evaluation.by = ("source",)


def smollm2(config: ConfigDict) -> None:
    """What a small model makes of MATH-500: 200 answers, which two CPU cores can draw."""
    config.name = "smollm2-math500"
    config.evaluation.problems = 50
    config.evaluation.samples = 4
    config.evaluation.batch = 16
    config.evaluation.sampling.max_tokens = 512


def smoke(config: ConfigDict) -> None:
    """Every stage with a handful of answers."""
    config.name = "maths-smoke"
    config.evaluation.problems = 4
    config.evaluation.samples = 2
    config.evaluation.batch = 4
    config.evaluation.bootstrap = 100
    config.evaluation.sampling.max_tokens = 8


PRESETS = {"rlvr_decomposed": rlvr_decomposed, "klear": klear, "pacs": pacs, "smollm2": smollm2, "smoke": smoke}
