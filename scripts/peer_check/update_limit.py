"""What an update's matrix products take alone, each shape timed by itself: the time that no update can do without."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from peer_check.update_case import timed
from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.models.decoder import branch_mask
from rl_reasoning.models.product import over_rows
from rl_reasoning.training.batch import Answers, TrainBatch


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
