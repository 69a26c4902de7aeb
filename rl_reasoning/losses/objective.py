"""A policy objective as data, and the one place where its parts are added up.

The loss of an update is a sum of parts, each a sum over tokens divided by a denominator of the whole update. The
denominators depend on lengths, weights and rewards alone, so they are known before the first micro-batch.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rl_reasoning.arrays import Array
from rl_reasoning.losses.covariance import selection_of
from rl_reasoning.losses.entropy import entropy_bonus
from rl_reasoning.losses.kl import kl_penalty
from rl_reasoning.losses.masks import entropy_quantile_mask, keep_tokens, off_policy_mask
from rl_reasoning.losses.mismatch import scale_terms
from rl_reasoning.losses.parts import Critic, Kl, TokenFilter
from rl_reasoning.losses.reduction import aggregate
from rl_reasoning.losses.supervised import supervised_on_right
from rl_reasoning.losses.surrogate import SurrogateInputs, Terms, added, clamp_logp
from rl_reasoning.losses.value import clipped_value

RIGHT_ABOVE = 0.5


@dataclasses.dataclass(frozen=True)
class Objective:
    """What one update minimises.

    Attributes:
      surrogate: the per-token policy loss.
      aggregation: how tokens are averaged (`losses.reduction.aggregate`).
      max_length: tokens, the constant of the aggregation `sequence_sum_token_norm`.
      entropy: coefficient of the entropy bonus, per nat.
      supervised: coefficient of the likelihood of fully right answers (`losses.supervised_on_right`).
      kl: the penalty for distance from the reference policy; `kl.in_reward` is not this module's.
      tokens: which tokens teach.
      critic: the critic's loss; None without a critic.
      reference: log-probabilities under the reference policy are given, and the distance from it is measured.
    """

    surrogate: Callable[[SurrogateInputs], Terms]
    aggregation: str
    max_length: int
    entropy: float = 0.0
    supervised: float = 0.0
    kl: Kl = Kl()
    tokens: TokenFilter = TokenFilter()
    critic: Critic | None = None
    reference: bool = False

    @property
    def looks_ahead(self) -> bool:
        """Whether something is chosen among all tokens of the update before the first of them can be trained on."""
        return selection_of(self.surrogate) is not None or self.tokens.entropy_share < 1


class LossInputs(NamedTuple):
    """A part of an update, one answer a row.

    Attributes:
      surrogate: what the surrogate reads. Its mask is True on the tokens that count.
      answers: [N, T] bool, every token of every answer.
      weights: [N, T] float, how much a token counts in numerators and denominators; 0 where it does not.
      scale: [N, T] float, multiplies the surrogate's values alone (a mismatch correction).
      collision: [N, T] float, sum over the vocabulary of squared probabilities; for the statistics.
      values, old_values, returns: [N, T] float, the critic's; read with a critic only.
      teaches: [N, T] bool, tokens chosen by `look_ahead`; None is all.
    """

    surrogate: SurrogateInputs
    answers: Array
    weights: Array
    scale: Array
    collision: Array
    values: Array
    old_values: Array
    returns: Array
    teaches: Array | None = None


class Totals(NamedTuple):
    """Denominators of an update; they add up over its parts. All scalars.

    policy: of the aggregation. tokens: that count. right: tokens of fully right answers. answers: all tokens.
    """

    policy: jax.Array
    tokens: jax.Array
    right: jax.Array
    answers: jax.Array


def totals(objective: Objective, weights: jax.Array, answers: jax.Array, rewards: jax.Array) -> Totals:
    """This part's share of the update's denominators, before any is kept from being 0.

    Args: weights: [N, T] float, answers: [N, T] bool, rewards: [N] float; see `LossInputs`.
    """
    right = (weights > 0) & (rewards == 1)[:, None]
    return Totals(_aggregate(objective, weights)[1], **added({"tokens": weights, "right": right, "answers": answers}))


def look_ahead(objective: Objective, inputs: SurrogateInputs) -> tuple[jax.Array | None, jax.Array | None]:
    """What has to be chosen among all tokens of an update at once: `selected` and `teaches`, [N, T] bool or None.

    Args: inputs: the whole update's, with a key for a choice at random.
    """
    select, share = selection_of(objective.surrogate), objective.tokens.entropy_share
    selected = None if select is None else select(inputs)
    if share == 1:
        return selected, None
    assert inputs.entropy is not None  # of every update
    teaches = entropy_quantile_mask(inputs.entropy, inputs.mask, share=share)
    return selected, teaches


def objective_loss(objective: Objective, inputs: LossInputs, total: Totals) -> tuple[jax.Array, dict[str, jax.Array]]:
    """This part's share of the loss, a scalar, and what adds up over parts.

    Differentiable in the surrogate's `logp` and `entropy` and in `values`.

    Args: total: the whole update's denominators, none of them 0.

    Returns: the loss, and the surrogate's sums with `loss/NAME` for each part (divided already), `entropy_sum`,
      `kl_reference_sum` with a reference, and `gradient_right`, `gradient_all`: the norms of the policy loss's
      gradient with respect to each token's logits, summed over right answers and over all.
    """
    terms = _policy_terms(objective, inputs)
    parts = _parts(objective, inputs, total, terms)
    loss = sum((part.coefficient * (part.values.sum() / part.total) for part in parts.values()), jnp.zeros(()))
    sums = added({**terms.measures, **_measures(objective, inputs, total),
                  **{name: part.values for name, part in parts.items()}})
    return loss, sums | {name: sums[name] / part.total for name, part in parts.items()}


class _Part(NamedTuple):
    """A part of the loss: coefficient * sum of values [N, T] / total."""

    values: jax.Array
    total: jax.Array
    coefficient: float = 1.0


def _parts(objective: Objective, inputs: LossInputs, total: Totals, terms: Terms) -> dict[str, _Part]:
    """What the loss consists of, by the name that it is reported under."""
    fixed = inputs.surrogate
    assert fixed.entropy is not None  # of every update
    parts = {"loss/policy": _Part(_shares(objective, terms, inputs), total.policy)}
    if objective.kl.in_loss:
        penalty = kl_penalty(fixed, estimator=objective.kl.estimator, corrected=objective.kl.corrected)
        parts["loss/kl"] = _Part(_shares(objective, penalty, inputs), total.policy, objective.kl.coefficient)
    if objective.entropy:
        kept = fixed.mask if inputs.teaches is None else fixed.mask & inputs.teaches
        bonus = entropy_bonus(fixed.entropy, kept)
        parts["loss/entropy"] = _Part(bonus.values * inputs.weights, total.tokens, objective.entropy)
    if objective.supervised:
        joint = supervised_on_right(fixed)
        parts["loss/supervised"] = _Part(joint.values * joint.weights, total.right, objective.supervised)
    if objective.critic:
        error = clipped_value(inputs.values, inputs.old_values, inputs.returns, fixed.mask, clip=objective.critic.clip)
        parts["loss/value"] = _Part(error.values * inputs.weights, total.tokens, objective.critic.coefficient)
    return parts


def _measures(objective: Objective, inputs: LossInputs, total: Totals) -> dict[str, jax.Array]:
    """[N, T] each: what is told of every update beside its loss and the surrogate's own."""
    fixed = inputs.surrogate
    assert fixed.entropy is not None  # of every update
    found = {"entropy_sum": jnp.where(inputs.answers, fixed.entropy, 0)} | _gradient_norms(objective, inputs, total)
    if objective.reference:
        found["kl_reference_sum"] = kl_penalty(fixed, estimator="k3").values
    return found


def _policy_terms(objective: Objective, inputs: LossInputs) -> Terms:
    """The surrogate's terms with the correction of the sampler and the filters of tokens."""
    fixed = inputs.surrogate
    terms = scale_terms(objective.surrogate(fixed), inputs.scale)
    if inputs.teaches is not None:
        terms = keep_tokens(terms, inputs.teaches)
    if objective.tokens.drift != float("inf"):
        terms = keep_tokens(terms, off_policy_mask(fixed.logp, fixed.old_logp, fixed.advantages, fixed.mask,
                                                   threshold=objective.tokens.drift))
    return terms


def _aggregate(objective: Objective, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    return aggregate(weights, objective.aggregation, max_length=objective.max_length)


def _shares(objective: Objective, terms: Terms, inputs: LossInputs) -> jax.Array:
    """[N, T]: the terms under the objective's aggregation, not yet added up and divided."""
    token_weights, _ = _aggregate(objective, terms.weights * inputs.weights)
    return terms.values * token_weights


def _gradient_norms(objective: Objective, inputs: LossInputs, total: Totals) -> dict[str, jax.Array]:
    """|dL/dlogp| * ||onehot - p||: how hard the policy loss pulls at the logits, without a backward pass."""
    inputs = jax.lax.stop_gradient(inputs)

    def loss(logp: jax.Array) -> jax.Array:
        moved = inputs._replace(surrogate=inputs.surrogate._replace(logp=logp))
        return _shares(objective, _policy_terms(objective, moved), moved).sum() / total.policy

    logp = inputs.surrogate.logp
    probability = jnp.exp(clamp_logp(logp, inputs.answers))
    length = jnp.sqrt(jnp.maximum(1 - 2 * probability + inputs.collision, 0))
    norms = jnp.where(inputs.surrogate.mask, jnp.abs(jax.grad(loss)(logp)) * length, 0)
    right = (inputs.surrogate.rewards > RIGHT_ABOVE)[:, None]
    return {"gradient_right": jnp.where(right, norms, 0), "gradient_all": norms}
