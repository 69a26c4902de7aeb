"""Seconds to compile the forward pass and the train step at several depths: flat, since layers are scanned.

    python scripts/compile_time.py                    # 4, 16 and 64 layers, on whatever JAX finds
    python scripts/compile_time.py --layers 8 32 --remat=block

Nothing is allocated: programs are compiled from shapes, without the cache of compiled programs. Decoding is not in
the table; it unrolls its layers and grows with them (--decode adds it).
"""

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rl_reasoning import losses, optim
from rl_reasoning.config import Optimizer, Sampling
from rl_reasoning.config.training import REMATS
from rl_reasoning.losses.objective import Objective
from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.models.decoder import branch_mask, hidden_states, initialize, logits, unstack_layers
from rl_reasoning.sampling.decode import Waiting, Window, decode, fill, prefill
from rl_reasoning.sampling.rules import make_rules
from rl_reasoning.training.batch import Answers
from rl_reasoning.training.minibatches import minibatches
from rl_reasoning.training.state import start
from rl_reasoning.training.states import Memory
from rl_reasoning.training.update import make_update

ROWS, LENGTH = 8, 128


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 16, 64], help="depths (default 4 16 64)")
    parser.add_argument("--remat", choices=REMATS, default="none", help="see rl_reasoning.models.remat (default none)")
    parser.add_argument("--decode", action="store_true", help="compile sampling too")
    options = parser.parse_args(arguments)
    jax.config.update("jax_enable_compilation_cache", False)
    names = ["forward", "train step", *(["sampling"] if options.decode else [])]
    print(f"{'layers':>6}" + "".join(f"{name:>12}" for name in names) + "   seconds")
    for layers in options.layers:
        config = DecoderConfig(4096, layers, 256, 8, 2, 32, 1024, qk_norm=True)
        programs = [forward(config), train_step(config, options.remat), sampling(config)][:len(names)]
        print(f"{layers:>6}" + "".join(f"{seconds(*program):>12.2f}" for program in programs), flush=True)
    return 0


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """Tracing, lowering and compiling, for arguments of which only the shapes are known."""
    began = time.perf_counter()
    jax.jit(function).lower(*arguments).compile()
    return time.perf_counter() - began


def shapes(config: DecoderConfig) -> Any:
    return jax.eval_shape(lambda: initialize(config, jax.random.key(0)))


def forward(config: DecoderConfig) -> tuple[Any, ...]:
    def run(parameters, tokens):
        positions = jnp.broadcast_to(jnp.arange(LENGTH), tokens.shape)
        mask = branch_mask(jnp.ones_like(tokens), jnp.zeros_like(tokens))
        return logits(config, parameters, hidden_states(config, parameters, tokens, positions, mask))

    return run, shapes(config), jax.ShapeDtypeStruct((ROWS, LENGTH), jnp.int32)


def train_step(config: DecoderConfig, remat: str) -> tuple[Any, ...]:
    optimizer = optim.make(Optimizer(), 10)
    update = make_update(config, Objective(losses.reinforce, "token_mean", LENGTH // 2), optimizer, temperature=1.0,
                         memory=Memory(remat), key=jax.random.key(0))
    state = jax.eval_shape(lambda: start(config, initialize(config, jax.random.key(0)), optimizer, critic=None))
    return update, state, batch()


def sampling(config: DecoderConfig) -> tuple[Any, ...]:
    def run(parameters, ids, lengths, waiting, uniforms, rules):
        weights = unstack_layers(config, parameters)
        slots = fill(config, Window(prefill(config, weights, ids, lengths), ids[:, -1], lengths, waiting), uniforms)
        return decode(config, weights, slots, rules, jnp.int32(LENGTH), jnp.int32(0))

    rows, rules = jnp.arange(ROWS), make_rules(Sampling(max_tokens=LENGTH // 2), config.vocabulary, 1)
    uniforms = jnp.zeros((ROWS, LENGTH // 2))
    waiting = Waiting(rows, rows, jnp.int32(ROWS))
    return run, shapes(config), jnp.zeros((ROWS, LENGTH // 2), jnp.int32), rows, waiting, uniforms, rules


def batch() -> Any:
    """One mini-batch of `ROWS` prompts with an answer each."""
    half = LENGTH // 2
    names = ("old_logprobs", "advantages", "weights", "scale", "ref_logprobs", "values", "returns")
    per_token = {name: np.ones((ROWS, half), np.float32) for name in names}
    answers = Answers(np.zeros((ROWS, half), np.int32), np.full(ROWS, half), np.arange(ROWS, dtype=np.int32),
                      np.zeros((ROWS, half), np.int32), np.full(ROWS, half, np.int32),
                      extras=per_token | {"rewards": np.ones(ROWS, np.float32)})
    return minibatches(answers, 1, 1, LENGTH, order=None)[0]


if __name__ == "__main__":
    sys.exit(main())
