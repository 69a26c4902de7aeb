"""Seconds to find the gradient norm of every answer: in one batched pass, and by a backward pass for each.

    python scripts/benchmark_gradient_norms.py
    python scripts/benchmark_gradient_norms.py --width 512 --layers 8 --vocabulary 32000 --prompt 64 --tokens 64

"one pass" is the norm at the output layer by pairs of tokens, without a backward pass; "by answer, head" the same norm
by a backward pass for each answer, which stops at that layer; "by answer, full" that of all weights. Programs are
compiled before the clock starts. Rounds alternate, and processor seconds are medians over rounds.
"""

import argparse
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rl_reasoning.analysis.gradient_norms import make_head_norms
from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.models.decoder import Parameters, initialize
from rl_reasoning.models.likelihood import token_logprobs
from rl_reasoning.training.batch import Answers, TrainBatch
from rl_reasoning.training.minibatches import apart, minibatches
from rl_reasoning.training.states import Memory, predicting_states, token_mask

SIZES = {"layers": 2, "width": 128, "vocabulary": 69, "prompt": 6, "tokens": 12, "prompts": 32, "samples": 8}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, size in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=size, help=f"default {size}")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    options = parser.parse_args(arguments)
    heads = max(1, options.width // 32)
    config = DecoderConfig(options.vocabulary, options.layers, options.width, heads, heads, 32, 3 * options.width)
    policy, answers = initialize(config, jax.random.key(0)), some_answers(options)
    whole = minibatches(answers, 1, max(1, options.prompts // 8), options.prompt + options.samples * options.tokens,
                        order=None)[0]
    each = apart(answers, np.arange(len(answers.lengths)))
    alone = [jax.tree.map(lambda leaf, i=i: leaf[i], each) for i in range(len(answers.lengths))]
    batched = make_head_norms(config, 1.0)
    head, full = by_answer(config, head_only=True), by_answer(config, head_only=False)
    ways = {
        "one pass": lambda: batched(policy, {}, whole),
        "by answer, head": lambda: one_by_one(head, policy, alone),
        "by answer, full": lambda: one_by_one(full, policy, alone),
    }
    norms = {name: np.asarray(way()).ravel() for name, way in ways.items()}
    error = np.abs(norms["one pass"] / norms["by answer, head"] - 1).max()
    seconds = {name: np.median([cpu_seconds(way) for _ in range(options.rounds)]) for name, way in ways.items()}
    print(f"{len(alone)} answers of {options.tokens} tokens, {options.layers} layers of width {options.width}, "
          f"vocabulary {options.vocabulary}; largest relative difference of norms {error:.1e}")
    for name, spent in seconds.items():
        print(f"{name:>16} {spent:9.4f} s  {spent / seconds['one pass']:7.1f} x")
    return 0


def some_answers(options: argparse.Namespace) -> Answers:
    """Random prompts and answers of full length."""
    rng, count = np.random.default_rng(0), options.prompts * options.samples
    ones = np.ones((count, options.tokens), np.float32)
    names = ("old_logprobs", "advantages", "weights", "scale", "ref_logprobs", "values", "returns")
    return Answers(
        rng.integers(0, options.vocabulary, (options.prompts, options.prompt)).astype(np.int32),
        np.full(options.prompts, options.prompt),
        np.repeat(np.arange(options.prompts, dtype=np.int32), options.samples),
        rng.integers(0, options.vocabulary, (count, options.tokens)).astype(np.int32),
        np.full(count, options.tokens, np.int32),
        extras=dict.fromkeys(names, ones) | {"rewards": np.ones(count, np.float32)})


def by_answer(config: DecoderConfig, *, head_only: bool) -> Callable[[Parameters, TrainBatch], jax.Array]:
    """The norm of one answer's gradient by a backward pass, with respect to the (tied) embedding or to everything."""
    def logp(moved: Parameters, policy: Parameters, batch: TrainBatch) -> jax.Array:
        hidden = predicting_states(config, policy if head_only else moved, batch, Memory())
        return jnp.where(token_mask(batch), token_logprobs(config, moved, hidden, batch.ids).logp, 0).sum()

    return jax.jit(lambda policy, batch: jnp.sqrt(sum(
        jnp.square(leaf).sum() for leaf in jax.tree.leaves(jax.grad(logp)(policy, policy, batch)))))


def one_by_one(norm: Callable[[Parameters, TrainBatch], jax.Array], policy: Parameters,
               parts: list[TrainBatch]) -> np.ndarray:
    """The norms of micro-batches of one answer each, one after the other."""
    return np.asarray([norm(policy, part) for part in parts])


def cpu_seconds(way: Callable[[], object]) -> float:
    """Processor seconds of one call."""
    began = time.process_time()
    jax.block_until_ready(way())
    return time.process_time() - began


if __name__ == "__main__":
    sys.exit(main())
