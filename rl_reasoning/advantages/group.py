"""A sequence against the others of its group: GRPO and its relatives.

All give values [N] that are exactly 0 when the valid rewards of the group are equal, and weight 0 to rows whose
group has fewer than two valid rewards. Rows without a valid reward leave the baseline.
"""

import math

import jax
import jax.numpy as jnp

from rl_reasoning.advantages.estimates import AdvantageInputs, Advantages, require_field
from rl_reasoning.advantages.groups import Grouped, group_max, group_sum, grouped, relative
from rl_reasoning.require import require, require_choice


def group_std(g: Grouped, *, ddof: int) -> jax.Array:
    """[N]: the standard deviation of the valid rewards of each row's group."""
    squares = jnp.where(g.valid, jnp.square(g.rewards - g.mean), 0)
    return jnp.sqrt(group_sum(squares, g.ids) / jnp.maximum(g.size - ddof, 1))


def batch_std(g: Grouped, *, ddof: int) -> jax.Array:
    """Scalar: the standard deviation of all valid rewards of the batch."""
    count = jnp.maximum(g.valid.sum(), 1)
    mean = g.rewards.sum() / count
    return jnp.sqrt(jnp.where(g.valid, jnp.square(g.rewards - mean), 0).sum() / jnp.maximum(count - ddof, 1))


def group_normalized(inputs: AdvantageInputs, *, scale: str = "group", ddof: int = 1,
                     epsilon: float = 1e-6) -> Advantages:
    """GRPO: (R - mean of the group) / (std + epsilon) (arXiv 2402.03300, section 4.1.2).

    Args:
      inputs: needs rewards, groups and lengths.
      scale: "group"; "batch" divides by the deviation of all rewards (arXiv 2508.08221); "none" is `dr_grpo`.
      ddof: 1 is the sample deviation, 0 the population's.
      epsilon: in the reward's unit, > 0.

    Raises:
      ValueError: unknown scale, ddof other than 0 and 1, epsilon <= 0.
    """
    require_choice("scale", scale, ("group", "batch", "none"))
    require(ddof in (0, 1), "ddof", ddof, "0, 1", "Give 1 for the sample deviation.")
    require(epsilon > 0, "epsilon", epsilon, "epsilon > 0", "Give a small number such as 1e-6.")
    g = grouped(inputs)
    centred = g.rewards - g.mean
    if scale == "none":
        return relative(centred, g)
    std = group_std(g, ddof=ddof) if scale == "group" else batch_std(g, ddof=ddof)
    return relative(centred / (std + epsilon), g)


def dr_grpo(inputs: AdvantageInputs) -> Advantages:
    """Dr. GRPO: R - mean of the group, not divided by its deviation (arXiv 2503.20783).

    Its loss averages with sequence_sum_token_norm.
    """
    g = grouped(inputs)
    return relative(g.rewards - g.mean, g)


def rloo(inputs: AdvantageInputs) -> Advantages:
    """REINFORCE leave-one-out: R - mean of the others = n / (n - 1) (R - mean of the group) (arXiv 2402.14740)."""
    g = grouped(inputs)
    return relative((g.rewards - g.mean) * g.size / jnp.maximum(g.size - 1, 1), g)


def opo(inputs: AdvantageInputs) -> Advantages:
    """R minus the length-weighted mean reward of the group, the variance-optimal baseline (arXiv 2505.23585).

    It is optimal if a gradient's squared norm grows with the answer's length.
    """
    g = grouped(inputs)
    lengths = jnp.where(g.valid, inputs.lengths, 0).astype(g.rewards.dtype)
    baseline = group_sum(lengths * g.rewards, g.ids) / jnp.maximum(group_sum(lengths, g.ids), 1)
    return relative(g.rewards - baseline, g)


def gpg(inputs: AdvantageInputs, *, count: str = "informative") -> Advantages:
    """(R - mean of the group) * alpha, alpha making up for the rows that give no gradient (arXiv 2504.02546).

    alpha is the number of rows over the number of those that count as informative: rows of groups whose rewards
    differ, or, with count="nonzero", rows whose reward is not 0 (what the verl library counts: full groups of right
    answers then lower alpha).

    Raises:
      ValueError: unknown count.
    """
    require_choice("count", count, ("informative", "nonzero"))
    g = grouped(inputs)
    informative = ~g.constant if count == "informative" else g.rewards != 0
    alpha = g.comparable.sum() / jnp.maximum((g.comparable & informative).sum(), 1)
    return relative(alpha * (g.rewards - g.mean), g)


def grpo_passk(inputs: AdvantageInputs, *, normalized: bool = False) -> Advantages:
    """Only the best answer of a group counts, by its lead over the second: R_max - R_second, others 0.

    The unbiased leave-one-out gradient of the expected maximum of n rewards (arXiv 2503.19595); dividing by the
    group's sample deviation plus 1e-6 (`normalized`, the verl library's default) gives that up. A tie at the top is
    worth 0.
    """
    g = grouped(inputs)
    best = group_max(jnp.where(g.valid, g.rewards, -jnp.inf), g.ids)
    leads = g.valid & (g.rewards >= best)
    second = group_max(jnp.where(g.valid & ~leads, g.rewards, -jnp.inf), g.ids)
    alone = leads & (group_sum(leads.astype(g.rewards.dtype), g.ids) == 1) & g.comparable
    lead = jnp.where(alone, best - second, 0)
    return relative(lead / (group_std(g, ddof=1) + 1e-6) if normalized else lead, g)


def gdpo(inputs: AdvantageInputs, *, component_weights: tuple[float, ...] | None = None,
         epsilon: float = 1e-4) -> Advantages:
    """Each part of a composed reward normalised within the group, then their weighted sum within the batch.

    z_k = (R_k - mean of the group) / (std + epsilon), S = sum_k w_k z_k, A = (S - mean of the batch) / (std + epsilon)
    with sample deviations (arXiv 2601.05242). A row with a component that is not finite does not count.

    Args:
      inputs: needs rewards (their finiteness), reward_components, groups and lengths.
      component_weights: K numbers; None is 1 for each.
      epsilon: > 0.

    Raises:
      ValueError: no components, a number of weights other than K, a weight that is not finite, or epsilon <= 0.
    """
    components = require_field("reward_components", inputs.reward_components, "gdpo")
    parts = components.shape[1]
    weights = (1.0,) * parts if component_weights is None else component_weights
    require(len(weights) == parts and all(map(math.isfinite, weights)), "component_weights", weights,
            f"{parts} finite numbers", "Give one weight for each reward component.")
    require(epsilon > 0, "epsilon", epsilon, "epsilon > 0", "Give a small number such as 1e-4.")
    complete = inputs._replace(rewards=jnp.where(jnp.isfinite(components).all(axis=1), inputs.rewards, jnp.nan))
    total, constant = jnp.zeros(()), jnp.ones(components.shape[0], bool)
    for weight, column in zip(weights, jnp.asarray(components).T, strict=True):
        part = grouped(complete._replace(rewards=jnp.where(jnp.isfinite(complete.rewards), column, jnp.nan)))
        z = relative((part.rewards - part.mean) / (group_std(part, ddof=1) + epsilon), part).values
        total, constant = total + weight * z, constant & part.constant
    g = grouped(complete)
    mean = total.sum() / jnp.maximum(g.comparable.sum(), 1)
    squares = jnp.where(g.comparable, jnp.square(total - mean), 0).sum()
    std = jnp.sqrt(squares / jnp.maximum(g.comparable.sum() - 1, 1))
    return relative((total - mean) / (std + epsilon), g._replace(constant=constant))
