"""What every surrogate reads and returns, and the masking that comes before any arithmetic.

Shape letters: N sequences, T answer tokens. A surrogate is `fn(inputs, *, options) -> Terms`; options are
Python values, checked when the function is called or traced.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rl_reasoning.arrays import Array
from rl_reasoning.require import require

MAX_LOG_RATIO = 20.0
MIN_LOGP = -1e30


class SurrogateInputs(NamedTuple):
    """One sequence a row.

    A row that must not count (padding, or an advantage weight of 0) has an all-False mask. What lies in a
    masked slot is never read, so it may be NaN or infinite.

    Attributes:
      logp: [N, T] float, log-probabilities under the policy that is trained; the only differentiated field.
      old_logp: [N, T] float, the same tokens under the policy at the start of the step.
      advantages: [N, T] float; an advantage of a whole sequence is repeated along its row.
      mask: [N, T] bool, True on the tokens the policy produced, the end-of-sequence token included.
      groups: [N] int, which problem a row answers; any ids, in any order.
      rewards: [N] float; NaN or infinite where the verifier could not score.
      ref_logp: [N, T] float, under the reference policy; read by the KL terms.
      entropy: [N, T] float, nats, of the policy that is trained; for `entropy_bonus` and `entropy_quantile_mask`.
      selected: [N, T] bool, tokens already chosen by `clip_cov_selection` or `kl_cov_selection`.
      key: random key; read by `clip_cov` only.
    """

    logp: jax.Array
    old_logp: Array
    advantages: Array
    mask: Array
    groups: Array
    rewards: Array
    ref_logp: Array | None = None
    entropy: jax.Array | None = None
    selected: Array | None = None
    key: jax.Array | None = None


class Terms(NamedTuple):
    """Per-token terms of a loss, before they are averaged (see `rl_reasoning.losses.reduction`).

    Attributes:
      values: [N, T] float, to be minimised; 0 where masked.
      weights: [N, T] float >= 0, how much a token counts in numerator and denominator: the mask unless a
        function says otherwise. Never differentiated.
      measures: [N, T] each, 0 where masked and never differentiated, by the name of what they add up to (`sums`).
        Every surrogate gives, in tokens unless said otherwise: `tokens`: how many count; `ratio_excess_sum` and
        `ratio_excess_square_sum`: of the importance ratio that the surrogate uses, less 1, since a variance from
        squares of numbers near 1 would be their rounding; `kl_behaviour_sum`: of the k3 estimate of
        KL(old || trained); `clipped_positive` and `clipped_negative`: tokens whose own gradient the surrogate cut or
        capped, by the sign of the advantage.
    """

    values: jax.Array
    weights: jax.Array
    measures: Mapping[str, Array]

    @property
    def sums(self) -> dict[str, jax.Array]:
        """Scalars that add up over micro-batches: the measures' sums."""
        return added(self.measures)


def added(measures: Mapping[str, Array]) -> dict[str, jax.Array]:
    """The sum of each [N, T] array, a scalar without a gradient: of each row's sum, so that float32 counts every token.

    One reduction makes all, which a CPU's compiler makes one kernel of with most of what is before it; a sum of its own
    for each would be two or three for each.
    """
    if not measures:
        return {}
    kind = jnp.result_type(jnp.float32, *measures.values())  # one reduction is of one type
    values = [jax.lax.stop_gradient(jnp.asarray(value).astype(kind)) for value in measures.values()]
    for axis in (1, 0):
        values = jax.lax.reduce(values, [jnp.zeros((), kind)] * len(values), _add_each, (axis,))
    return dict(zip(measures, values, strict=True))


def _add_each(one: list[jax.Array], two: list[jax.Array]) -> list[jax.Array]:
    return [a + b for a, b in zip(one, two, strict=True)]


class Prepared(NamedTuple):
    """Masked, clamped inputs: every array [N, T], finite, and 0 where masked.

    logp is differentiable; old_logp and advantages are not; log_ratio = logp - old_logp, clamped to
    +-`MAX_LOG_RATIO`; weights is the mask as float; positive and negative say where the advantage has a sign.
    """

    logp: jax.Array
    old_logp: jax.Array
    advantages: jax.Array
    log_ratio: jax.Array
    mask: jax.Array
    weights: jax.Array
    positive: jax.Array
    negative: jax.Array


def require_clip(clip_low: float, clip_high: float) -> None:
    """Raises ValueError unless 0 <= clip_low < 1 and 0 <= clip_high."""
    require(0 <= clip_low < 1, "clip_low", clip_low, "0 <= clip_low < 1",
            "Give the distance below a ratio of 1, such as 0.2.")
    require(0 <= clip_high < math.inf, "clip_high", clip_high, "0 <= clip_high < inf",
            "Give the distance above a ratio of 1, such as 0.2.")


def zero_where_masked(values: Array, mask: Array) -> jax.Array:
    """`values` in at least float32, 0 where masked, so that no masked NaN meets a multiplication or an exp."""
    values = jnp.asarray(values)
    return jnp.where(mask, values, 0).astype(jnp.promote_types(values.dtype, jnp.float32))


def clamp_logp(logp: Array, mask: Array) -> jax.Array:
    """Log-probabilities, 0 where masked; -inf becomes a finite floor (without gradient), NaN stays NaN."""
    logp = zero_where_masked(logp, mask)
    return jnp.where(logp < MIN_LOGP, MIN_LOGP, logp)


def clamp_log_ratio(log_ratio: Array) -> jax.Array:
    """Clamps to +-20, so that an exp stays finite; the gradient is 0 outside."""
    return jnp.where(jnp.abs(log_ratio) > MAX_LOG_RATIO, jnp.sign(jax.lax.stop_gradient(log_ratio)) * MAX_LOG_RATIO,
                     log_ratio)


def check_shapes(mask: Array, **arrays: Array) -> None:
    """Raises ValueError unless all arrays have the shape [N, T] of the mask: broadcasting would hide a mistake."""
    shape = jnp.shape(mask)
    for name, array in arrays.items():
        require(len(shape) == 2 and jnp.shape(array) == shape, f"the shape of {name}", jnp.shape(array),
                f"[N, T], the same as the mask's {shape}", "Repeat a value of a whole sequence along its row.")


def prepare(inputs: SurrogateInputs) -> Prepared:
    """Masks and clamps what a policy surrogate reads; blocks gradients to everything but `logp`.

    Raises:
      ValueError: an array is not [N, T] like the mask.
    """
    check_shapes(inputs.mask, logp=inputs.logp, old_logp=inputs.old_logp, advantages=inputs.advantages)
    mask = jnp.asarray(inputs.mask, bool)
    logp = clamp_logp(inputs.logp, mask)
    old_logp = jax.lax.stop_gradient(clamp_logp(inputs.old_logp, mask))
    advantages = jax.lax.stop_gradient(zero_where_masked(inputs.advantages, mask))
    return Prepared(logp=logp, old_logp=old_logp, advantages=advantages, log_ratio=clamp_log_ratio(logp - old_logp),
                    mask=mask, weights=mask.astype(logp.dtype), positive=advantages > 0, negative=advantages < 0)


def sequence_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """[N, T] -> [N, 1], the mean over a row's unmasked tokens; 0 for an empty row. `values` is 0 where masked."""
    return values.sum(axis=1, keepdims=True) / jnp.maximum(mask.sum(axis=1, keepdims=True), 1)


def terms(loss: jax.Array, prepared: Prepared, ratio: jax.Array, clipped: jax.Array) -> Terms:
    """Assembles `Terms` from a per-token loss [N, T], the ratio it used [N, T] and where it clipped [N, T] bool."""
    mask, log_ratio = prepared.mask, jax.lax.stop_gradient(prepared.log_ratio)
    excess = jax.lax.stop_gradient(jnp.where(mask, ratio - 1, 0))
    clipped = clipped & mask
    return Terms(jnp.where(mask, loss, 0), prepared.weights, {
        "tokens": prepared.weights,
        "ratio_excess_sum": excess,
        "ratio_excess_square_sum": jnp.square(excess),
        "kl_behaviour_sum": jnp.expm1(log_ratio) - log_ratio,
        "clipped_positive": clipped & prepared.positive,
        "clipped_negative": clipped & prepared.negative,
    })
