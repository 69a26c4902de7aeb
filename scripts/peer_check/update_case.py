"""The update that benchmarks time: GRPO's clipped loss on given answers, its sizes, and its step."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from rl_reasoning import optim
from rl_reasoning.algorithms import ALGORITHMS
from rl_reasoning.config import Optimizer
from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.models.decoder import initialize
from rl_reasoning.parallel import ONE_PART, Layout
from rl_reasoning.training.batch import Answers, TrainBatch
from rl_reasoning.training.minibatches import minibatches
from rl_reasoning.training.state import TrainState, start
from rl_reasoning.training.states import Memory
from rl_reasoning.training.update import Update, make_update

SIZES = {"tiny": DecoderConfig(4_096, 4, 256, 8, 2, 32, 1_024), "135m": DecoderConfig(49_152, 30, 576, 9, 3, 64, 1_536)}
ROWS = {"tiny": 32, "135m": 4}
PROMPT, ANSWER = 64, 128


def answers(config: DecoderConfig, rows: int, ragged: bool, longest: int = ANSWER) -> Answers:
    """One answer to each prompt; ragged ones have a geometric tail, as early training has."""
    rng = np.random.default_rng(0)
    lengths = np.minimum(rng.geometric(1 / 32, rows) + 4, longest) if ragged else np.full(rows, longest)
    per_token = {name: np.full((rows, longest), value, np.float32) for name, value in (
        ("old_logprobs", -8.0), ("weights", 1.0), ("scale", 1.0), ("ref_logprobs", 0.0), ("values", 0.0),
        ("returns", 0.0))}
    per_token["advantages"] = np.repeat(rng.normal(size=(rows, 1)), longest, 1).astype(np.float32)
    prompts, ids = (rng.integers(0, config.vocabulary, (rows, tokens)).astype(np.int32) for tokens in (PROMPT, longest))
    return Answers(prompts, np.full(rows, PROMPT), np.arange(rows, dtype=np.int32), ids, lengths.astype(np.int32),
                   extras={**per_token, "rewards": np.ones(rows, np.float32)})


def prepared(config: DecoderConfig, given: Answers, memory: Memory = Memory(),
             layout: Layout | None = None) -> tuple[Update, TrainState, TrainBatch]:
    """GRPO's update, its state, and the answers packed.

    The state is there when this returns: while it is still being filled, that work counts as what is timed next.
    """
    optimizer = optim.policy_and_critic(Optimizer(learning_rate=1e-5), 1000, 1.0)
    tokens = given.ids.shape[1]
    update = make_update(config, ALGORITHMS["grpo"].objective(tokens, reference=False), optimizer, temperature=1.0,
                         key=jax.random.key(0), memory=memory, layout=layout)
    state = start(config, initialize(config, jax.random.key(0)), optimizer, critic=None, layout=layout)
    [batch] = minibatches(given, 1, 1, PROMPT + tokens, None, shards=layout.shards if layout else ONE_PART)
    return update, jax.block_until_ready(state), batch


def compiled(update: Update, state: TrainState, batch: TrainBatch) -> tuple[jax.stages.Compiled, float]:
    """The update traced, lowered and compiled, and the CPU seconds of that."""
    found, seconds, _ = timed(lambda: update.lower(state, batch).compile())
    return found, seconds


def stepper(program: jax.stages.Compiled, state: TrainState, batch: TrainBatch) -> Callable[[], tuple[float, float]]:
    """What does one more update of the state each time, and gives its CPU and wall seconds."""
    frozen, moving = state.frozen, state._replace(frozen={})

    def step() -> tuple[float, float]:
        nonlocal moving
        (moving, _), cpu, wall = timed(lambda: jax.block_until_ready(program(moving, frozen, batch)))
        return cpu, wall

    return step


def timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """What a function gives, its CPU seconds, all threads together, and its wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    found = function()
    return found, time.process_time() - cpu, time.perf_counter() - wall
