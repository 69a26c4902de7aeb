"""Times one update: tokens a CPU-second, share of what its matrix products alone would take, memory, compile time.

    python scripts/bench_trainer.py --quick --no-peers          # 4.9M, a minute or two
    python scripts/bench_trainer.py --sizes tiny 135m --peers-folder ~/.cache/peers
    python scripts/bench_trainer.py --topology=v5e:4x4 --rows=16 --mlp-blocks=4       # compiled for a slice, not run

The update is GRPO's clipped loss on given answers. `roof_share` is the time of its matrix products, each shape timed
alone in the same process with its own operands, over the time of the whole update, the least of either, since other
work on the machine only adds to it; products that a pass makes again to save memory do not count, so 1 is out of reach.
Attention's products of scores and values are among them, by the share of the pairs of positions that a query may see
(`seen`: of a fixed row 1/2; packed rows have less). `padding` is the share of the rows' places that hold no token.
Ragged batches have long-tailed lengths (most answers short, few long), which is where packing pays. Peers, each in an
environment of its own, on the same sizes and batch: google-tunix's own GRPO loss and optimizer step, and transformers'
model with the loss written out in plain torch. Ratios, the peer's seconds over ours, are of steps timed one after the
other. CPU seconds are the process's. The last line is one JSON object.

With --topology nothing is timed: our update and google-tunix's, AdamW's step with each, of Qwen2.5-7B's sizes in
bfloat16 are compiled ahead of time for that slice, on any machine with libtpu (`pip install -e '.[plan]'`).
"""

import argparse
import dataclasses
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from peer_check import cores
from peer_check.environments import PeerUnavailable
from peer_check.timed_peer import TimedPeer

from rl_reasoning import optim
from rl_reasoning.algorithms import ALGORITHMS
from rl_reasoning.config import Optimizer
from rl_reasoning.config.training import REMATS
from rl_reasoning.models.architecture import ATTENTIONS, DecoderConfig, Precision
from rl_reasoning.models.decoder import branch_mask, initialize
from rl_reasoning.models.product import over_rows
from rl_reasoning.parallel import ONE_PART, Layout
from rl_reasoning.training.batch import Answers, TrainBatch
from rl_reasoning.training.minibatches import minibatches
from rl_reasoning.training.state import TrainState, start
from rl_reasoning.training.states import Memory
from rl_reasoning.training.update import Update, make_update
from rl_reasoning.without_tpu import NO_TPU

SIZES = {"tiny": DecoderConfig(4_096, 4, 256, 8, 2, 32, 1_024), "135m": DecoderConfig(49_152, 30, 576, 9, 3, 64, 1_536)}
ROWS = {"tiny": 32, "135m": 4}
PROMPT, ANSWER = 64, 128
PEERS = {"tunix": "tunix", "torch": "transformers"}  # what each step of `peer_check` runs in


@dataclasses.dataclass(frozen=True)
class Case:
    """What is timed: a model of `SIZES`, number types, and lengths that are all alike or ragged."""

    size: str
    dtype: str
    ragged: bool

    @property
    def name(self) -> str:
        return f"{self.size} {self.dtype} {'ragged' if self.ragged else 'fixed'}"

    @property
    def config(self) -> DecoderConfig:
        return dataclasses.replace(SIZES[self.size], precision=Precision(self.dtype, self.dtype, self.dtype))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16"), default=["float32"])
    parser.add_argument("--remat", choices=REMATS, default="",
                        help="what is computed again (default none; with --topology block)")
    parser.add_argument("--topology", default="", help="a TPU slice to compile for, as in v5e:4x4 or v5p:2x2x4")
    parser.add_argument("--rows", type=int, default=16, help="with --topology: rows of 1,024 tokens (default 16)")
    parser.add_argument("--attention", choices=ATTENTIONS, default="xla", help="with --topology: ours (default xla)")
    parser.add_argument("--mlp-blocks", type=int, default=1, help="with --topology: ours (default 1)")
    parser.add_argument("--as-on-cpu", action="store_true", help="with --topology: google-tunix's activations lie "
                        "where they fall, as its code leaves them where the host has no TPU")
    parser.add_argument("--pairs", type=int, default=5, help="timed blocks; with peers, pairs (default 5)")
    cores.add_option(parser)
    parser.add_argument("--quick", action="store_true", help="the small model, few blocks")
    parser.add_argument("--no-peers", action="store_true", help="our update alone")
    parser.add_argument("--peers-folder", type=Path, default=Path("peers"), help="where peers' environments are or go")
    options = parser.parse_args(arguments)
    if options.topology:
        return compiled_for_a_slice(options)
    cores.keep_to(options.cores, parser)
    if options.quick:
        options.sizes, options.pairs = ["tiny"], min(options.pairs, 3)
    jax.config.update("jax_enable_compilation_cache", False)
    print(f"{cores.words(options.cores)}, jax {jax.__version__}, {jax.default_backend()}")
    cases = [Case(size, dtype, ragged) for size in options.sizes for dtype in options.dtypes
             for ragged in (False, True)]
    results = {}
    for case in cases:
        results[case.name] = found = measure(case, options)
        print(f"{case.name}: " + ", ".join(f"{name} {value:.4g}" for name, value in found.items()), flush=True)
    print(json.dumps({"load": os.getloadavg()[0], "cases": results, **results[cases[0].name]}))
    return 0


def compiled_for_a_slice(options: argparse.Namespace) -> int:
    """The comparison without noise: what two compiled updates take on a chip."""
    os.environ |= NO_TPU
    from peer_check import compiled

    wanted = compiled.Wanted(options.topology, options.rows, options.remat or "block", options.mlp_blocks,
                             options.as_on_cpu, dataclasses.replace(compiled.CONFIG, attention=options.attention))
    try:
        found = compiled.compare(wanted, None if options.no_peers else options.peers_folder)
    except (ValueError, PeerUnavailable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for side, figures in found.items():
        print(f"{side}: {figures:.3f}" if isinstance(figures, float) else
              f"{side}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    print(json.dumps({**dataclasses.asdict(wanted), **found}))
    return 0


def measure(case: Case, options: argparse.Namespace) -> dict[str, float]:
    """Our figures for one case, and ratios to the peer's where it is asked."""
    given = answers(case.config, ROWS[case.size], case.ragged)
    update, state, batch = prepared(case.config, given, Memory(options.remat or "none"))
    compiled, compile_seconds, _ = timed(lambda: update.lower(state, batch).compile())
    step = stepper(compiled, state, batch)
    step()  # warm
    peers = [] if options.no_peers else [start_peer(name, case, options) for name in PEERS]
    before = limit_seconds(case.config, given, batch)
    ours, walls, theirs = [], [], {peer: [] for peer in peers}
    for _ in range(options.pairs):
        cpu, wall = step()
        ours.append(cpu)
        walls.append(wall)
        for peer in peers:
            theirs[peer].append(peer.step())
    tokens, seconds = given.lengths.sum() + given.prompt_lengths.sum(), statistics.median(ours)
    limit = min(before, limit_seconds(case.config, given, batch))  # a machine has slow moments, too
    found = {"tokens_per_cpu_s": float(tokens / seconds), "step_cpu_s": seconds,
             "step_wall_s": statistics.median(walls), "spread": (max(ours) - min(ours)) / seconds,
             "roof_share": limit / min(ours),
             "padding": batch.padding, "seen": seen_share(batch),
             "temporaries_mb": compiled.memory_analysis().temp_size_in_bytes / 1e6, "compile_cpu_s": compile_seconds,
             "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}
    for peer, steps in theirs.items():
        peer.stop()
        found |= {f"{kind}_ratio_{peer.name}": statistics.median(other[kind] / own for other, own in zip(
            steps, mine, strict=True)) for kind, mine in (("wall", walls), ("cpu", ours))}
        found |= {f"{peer.name}_compile_cpu_s": peer.first["compile"]} if peer.first["compile"] else {}
    return found


def start_peer(name: str, case: Case, options: argparse.Namespace) -> TimedPeer:
    """A peer's step on the same sizes and lengths."""
    return TimedPeer.start(name, PEERS[name], f"train_{name}.py", {
        "config": dataclasses.asdict(SIZES[case.size]), "dtype": case.dtype, "rows": ROWS[case.size],
        "prompt": PROMPT, "answer": ANSWER, "threads": options.cores,
        "lengths": answers(case.config, ROWS[case.size], case.ragged).lengths.tolist()}, options.peers_folder)


def prepared(config: DecoderConfig, given: Answers, memory: Memory = Memory(),
             layout: Layout | None = None) -> tuple[Update, TrainState, TrainBatch]:
    """GRPO's update, its state, and the answers packed."""
    optimizer = optim.policy_and_critic(Optimizer(learning_rate=1e-5), 1000, 1.0)
    tokens = given.ids.shape[1]
    update = make_update(config, ALGORITHMS["grpo"].objective(tokens, reference=False), optimizer, temperature=1.0,
                         key=jax.random.key(0), memory=memory, layout=layout)
    state = start(config, initialize(config, jax.random.key(0)), optimizer, critic=None, layout=layout)
    [batch] = minibatches(given, 1, 1, PROMPT + tokens, None, shards=layout.shards if layout else ONE_PART)
    return update, state, batch


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


def stepper(compiled: jax.stages.Compiled, state: TrainState, batch: TrainBatch) -> Callable[[], tuple[float, float]]:
    """What does one more update of the state each time, and gives its CPU and wall seconds."""
    frozen, moving = state.frozen, state._replace(frozen={})

    def step() -> tuple[float, float]:
        nonlocal moving
        (moving, _), cpu, wall = timed(lambda: jax.block_until_ready(compiled(moving, frozen, batch)))
        return cpu, wall

    return step


def timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """What a function gives, its CPU seconds, all threads together, and its wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    found = function()
    return found, time.process_time() - cpu, time.perf_counter() - wall


def limit_seconds(config: DecoderConfig, given: Answers, batch: TrainBatch) -> float:
    """CPU seconds of the products that an update cannot do without, each shape timed alone."""
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    layer = [(config.width, queries), (config.width, keys), (config.width, keys), (queries, config.width),
             (config.width, config.mlp), (config.width, config.mlp), (config.mlp, config.width)]
    answered, tokens = int(given.lengths.sum()), int(given.lengths.sum() + given.prompt_lengths.sum())
    seconds = sum(config.layers * pass_seconds(tokens, *shape, config.precision.compute) for shape in layer)
    seconds += pass_seconds(answered, config.width, config.vocabulary, config.precision.head)
    return seconds + attention_seconds(config, batch)


def seen_share(batch: TrainBatch) -> float:
    """Pairs of positions of which one may see the other, over all pairs in the rows."""
    return float(branch_mask(batch.segments[0], batch.branches[0]).mean())


def attention_seconds(config: DecoderConfig, batch: TrainBatch) -> float:
    """CPU seconds of attention's products, each timed alone, times the share of pairs of positions that are seen.

    Six a layer: scores and values forward, and what they pull at queries, keys, weights and values. That the backward
    pass makes the scores again does not count. A few rows are timed for all: of all, the time to get memory for the
    scores would count as theirs.
    """
    (_, rows, length), many = batch.tokens.shape, config.heads // config.kv_heads
    some = min(rows, 4)
    shape, dtype = (some, config.kv_heads), config.precision.compute
    states = jnp.ones((*shape, many * length, config.head_dim), dtype)
    scores = jnp.ones((*shape, many * length, length), dtype)
    turned, few = jnp.ones((*shape, config.head_dim, length), dtype), jnp.ones((*shape, length, config.head_dim), dtype)
    kinds = ((jnp.matmul, states, turned), (jnp.matmul, scores, few),
             (lambda a, b: jnp.matmul(a.swapaxes(2, 3), b), states, scores))
    return 2 * config.layers * rows / some * seen_share(batch) * sum(alone(*kind) for kind in kinds)


def pass_seconds(tokens: int, inputs: int, outputs: int, dtype: str) -> float:
    """Of x W, of its gradient to x and of that to W in the faster of two ways; the best of three."""
    x, w = jnp.ones((tokens, inputs), dtype), jnp.ones((inputs, outputs), dtype)
    y = jnp.ones((tokens, outputs), dtype)
    to_weights = min(alone(way, x, y) for way in (lambda a, b: a.T @ b, over_rows))
    return alone(lambda a, b: a @ b, x, w) + alone(lambda a, b: a @ b.T, y, w) + to_weights


def alone(product: Callable[[jax.Array, jax.Array], jax.Array], one: jax.Array, two: jax.Array) -> float:
    """CPU seconds of one product, the best of three."""
    compiled = jax.jit(product).lower(one, two).compile()
    jax.block_until_ready(compiled(one, two))
    return min(timed(lambda: jax.block_until_ready(compiled(one, two)))[1] for _ in range(3))


if __name__ == "__main__":
    sys.exit(main())
