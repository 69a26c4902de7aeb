"""One token from each row of logits: what may be drawn, the draw, and the log-probability of what was drawn."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rl_reasoning.arrays import Array

_LARGEST = 0x7F7FFFFF  # the bits of the largest finite float32


class Cut(NamedTuple):
    """Truncations of the distribution; scalars. top_k: int32, at most V. top_p, min_p: float32."""

    top_k: jax.Array
    top_p: jax.Array
    min_p: jax.Array


@functools.partial(jax.tree_util.register_dataclass, meta_fields=["declared"],
                   data_fields=["temperature", "cut", "stops", "min_tokens", "forbidden", "forced"])
@dataclasses.dataclass(frozen=True)
class Rules:
    """How tokens are drawn, as arrays: other values do not compile again; None leaves a rule out of the program.

    Attributes:
      temperature: scalar float32; None takes the likeliest token.
      stops: [E] int32, the tokens that end an answer.
      cut: truncations, or None.
      min_tokens: scalar int32: no stop among an answer's first tokens; or None.
      forbidden: [V] bool, tokens that are never drawn, or None.
      forced: [F] int32, what every answer begins with, or None.
      declared: "sampled" reports log-probabilities after truncation, "policy" those before.
    """

    temperature: jax.Array | None
    stops: jax.Array
    cut: Cut | None = None
    min_tokens: jax.Array | None = None
    forbidden: jax.Array | None = None
    forced: jax.Array | None = None
    declared: str = "sampled"


class Draw(NamedTuple):
    """ids: [B] int32. logprobs: [B] float32. finite: [B] bool, False where the logits give no distribution."""

    ids: jax.Array
    logprobs: jax.Array
    finite: jax.Array


def draw_token(raw: jax.Array, uniforms: Array, counts: jax.Array, rules: Rules, *, axis: int = 1) -> Draw:
    """A token for each row and its log-probability under the declared distribution.

    At temperature 0 it is the likeliest token, with its log-probability at temperature 1. A forced token has the
    log-probability that it had before truncation.

    Args: raw [B, V] logits, or [V, B] with axis 0, along which the vocabulary lies; uniforms [B] in [0, 1); counts [B]
        int32, tokens that each answer has already.
    """
    gap, weights, kept = distribution(raw, counts, rules, axis=axis)
    # The first of the likeliest tokens comes from the same search; a plain argmax takes 20 times as long on a CPU.
    ids = draw(kept, uniforms, axis=axis) if rules.temperature is not None else draw(
        (gap == 0).astype(jnp.float32), jnp.zeros_like(uniforms), axis=axis)
    total, before = (_blocks(x, axis).sum(axis=1 + axis).sum(axis=axis) for x in (kept, weights))
    declared = before if rules.declared == "policy" or rules.temperature is None else total
    if rules.forced is not None:
        begun = counts >= rules.forced.size
        ids = jnp.where(begun, ids, rules.forced[jnp.minimum(counts, rules.forced.size - 1)])
        declared = jnp.where(begun, declared, before)
    below = jnp.take_along_axis(gap, jnp.expand_dims(ids, axis), axis=axis).squeeze(axis)
    return Draw(ids, -below - jnp.log(declared), jnp.isfinite(total))


def declared_logprobs(raw: jax.Array, counts: jax.Array, rules: Rules) -> jax.Array:
    """Log-probabilities [B, V] of the distribution that `draw_token` reports, -inf outside of it; forcing aside."""
    gap, weights, kept = distribution(raw, counts, rules)
    if rules.declared == "policy" or rules.temperature is None:
        kept = weights
    return jnp.where(kept > 0, -gap - jnp.log(kept.sum(axis=1, keepdims=True)), -jnp.inf)


def distribution(raw: jax.Array, counts: jax.Array, rules: Rules, *, axis: int = 1) -> tuple[jax.Array, ...]:
    """What may be drawn from [B, V] logits, or [V, B] with axis 0.

    Returns:
      how far the logits over temperature lie below their maximum [B, V], inf where forbidden; exp of minus that; and
      the same with 0 outside of the truncated support; all turned with axis 0.
    """
    raw = _allowed(raw.astype(jnp.float32), counts, rules, axis)
    top = raw.max(axis=axis, keepdims=True)
    gap = top - raw if rules.temperature is None else (top - raw) / rules.temperature
    weights = jnp.exp(-gap)
    if rules.cut is None:
        return gap, weights, weights
    # A compiler may compute the gap twice with other rounding, and the last token kept lies at the limit exactly.
    rounding = 1e-6 * (1 + gap)
    return gap, weights, jnp.where(gap <= _limit(gap, weights, rules.cut, axis) + rounding, weights, 0.0)


def _allowed(raw: jax.Array, counts: jax.Array, rules: Rules, axis: int) -> jax.Array:
    def of_tokens(some: jax.Array) -> jax.Array:
        return jnp.expand_dims(some, 1 - axis)

    if rules.forbidden is not None:
        raw = jnp.where(of_tokens(rules.forbidden), -jnp.inf, raw)
    if rules.min_tokens is not None:
        stops = (jnp.arange(raw.shape[axis])[:, None] == rules.stops).any(axis=-1)
        raw = jnp.where(of_tokens(stops) & jnp.expand_dims(counts < rules.min_tokens, axis), -jnp.inf, raw)
    return raw


def _limit(gap: jax.Array, weights: jax.Array, cut: Cut, axis: int) -> jax.Array:
    """[B, 1]: how far below the likeliest token's logit the least likely token lies that is kept.

    Top-k is cut first, then top-p on what is left, renormalised: the smallest set of likeliest tokens whose mass
    reaches top_p, the token that crosses it included; then min-p, a share of the likeliest token's probability.
    Ties with the last token kept, to within rounding, are kept.
    """
    first = jax.lax.slice_in_dim(gap, 0, 1, axis=axis)
    reach = functools.partial(_reach, axis=axis)

    def apply(active: jax.Array, mass: jax.Array, target: jax.Array) -> jax.Array:
        return jax.lax.cond(active, reach, lambda *_: jnp.full_like(first, jnp.inf), gap, mass, target)

    limit = apply(cut.top_k < gap.shape[axis], jnp.ones_like(gap), jnp.full_like(first, cut.top_k))
    left = jnp.where(gap <= limit, weights, 0.0)
    limit = jnp.minimum(limit, apply(cut.top_p < 1, left, cut.top_p * left.sum(axis=axis, keepdims=True)))
    return jnp.minimum(limit, -jnp.log(cut.min_p))


def _reach(gap: jax.Array, mass: jax.Array, target: jax.Array, axis: int) -> jax.Array:
    """[B, 1]: the smallest gap within which the mass reaches the target.

    By bisection over the bits of float32, which order numbers of 0 and more: 31 sums over the vocabulary, exact,
    and on a CPU over ten times faster than a sort.
    """
    bits = jax.lax.bitcast_convert_type(gap, jnp.int32)

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        below, enough = bounds
        middle = below + (enough - below) // 2
        reached = jnp.where(bits <= middle, mass, 0.0).sum(axis=axis, keepdims=True) >= target
        return jnp.where(reached, below, middle), jnp.where(reached, middle, enough)

    first = (jnp.full_like(target, -1, jnp.int32), jnp.full_like(target, _LARGEST, jnp.int32))
    return jax.lax.bitcast_convert_type(jax.lax.fori_loop(0, 31, halve, first)[1], jnp.float32)


def draw(weights: jax.Array, uniforms: Array, *, axis: int = 1) -> jax.Array:
    """Inverse-CDF sampling in two levels: the first id at which the cumulative weight exceeds the uniform share.

    Two short cumulative sums instead of one over the vocabulary, and one random number instead of V.

    Args: weights [B, V] of 0 and more, or [V, B] with axis 0; uniforms [B] in [0, 1).
    Returns: [B] int32; always an id of positive weight.
    """
    blocks, rows = _blocks(weights, axis), jnp.arange(weights.shape[1 - axis])
    sums = blocks.sum(axis=1 + axis)
    sums = sums if axis else sums.T
    cumulative = _cumulative(sums)
    target = uniforms * cumulative[:, -1]
    chosen = _first_above(cumulative, target, sums)
    reached = jnp.take_along_axis(cumulative - sums, chosen[:, None], axis=-1)[:, 0]
    inner = blocks[rows, chosen] if axis else blocks[chosen, :, rows]
    return chosen * inner.shape[1] + _first_above(_cumulative(inner), target - reached, inner)


def _cumulative(mass: jax.Array) -> jax.Array:
    """Sums [B, n] of all columns up to each: by a product, which compiles faster than a cumulative sum does."""
    columns = jnp.arange(mass.shape[1])
    return jnp.matmul(mass, (columns[:, None] <= columns).astype(mass.dtype), precision=jax.lax.Precision.HIGHEST)


def _blocks(weights: jax.Array, axis: int) -> jax.Array:
    """[B, V] as [B, n, V / n], or [V, B] as [n, V / n, B], filled up with 0; n is about the root of V.

    Sums are taken in blocks first: along axis 0 a sum over all of a vocabulary would round at every token.
    """
    size = weights.shape[axis]
    block = 1 << (max(1, size - 1).bit_length() + 1) // 2
    padding = [(0, 0), (0, 0)]
    padding[axis] = (0, -size % block)
    padded = jnp.pad(weights, padding)
    return padded.reshape(len(padded), -1, block) if axis else padded.reshape(-1, block, padded.shape[1])


def _first_above(cumulative: jax.Array, target: Array, mass: jax.Array) -> jax.Array:
    """First column whose cumulative mass exceeds the target; the heaviest one where rounding leaves none."""
    above = (cumulative > target[:, None]) & (mass > 0)
    return jnp.where(above, jnp.inf, mass).argmax(axis=-1).astype(jnp.int32)
