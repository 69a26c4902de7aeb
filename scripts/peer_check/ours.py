"""Our numbers for the inputs of the cross-check, in float64: each function here makes one from an `Arrays` dict.

What is masked in a number (numpy.ma) is not compared.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from peer_check.inputs import LONGEST, Arrays
from rl_reasoning import advantages, losses
from rl_reasoning.advantages import AdvantageInputs, Advantages
from rl_reasoning.losses import PreferencePairs, SurrogateInputs, Terms

Numbers = Callable[[Arrays], Arrays]
Surrogate = Callable[[SurrogateInputs], Terms]


def policy(surrogate: Surrogate, aggregation: str = "token_mean", *, mask: str = "mask", on_policy: bool = False,
           denominator: float | None = None, max_length: int = LONGEST, kl: float = 0.0, estimator: str = "k3",
           corrected: bool = False, entropy: float = 0.0) -> Numbers:
    """Loss and gradient with respect to logp [N, T] of an averaged surrogate, a KL penalty and an entropy bonus."""
    def loss(logp: jax.Array, arrays: Arrays) -> jax.Array:
        given = surrogate_inputs(arrays, logp, mask, on_policy)
        averaging = {"max_length": max_length, "denominator": denominator}
        total = losses.reduce(surrogate(given), aggregation, **averaging)
        if kl:
            penalty = losses.kl_penalty(given, estimator=estimator, corrected=corrected)
            total = total + kl * losses.reduce(penalty, aggregation, **averaging)
        if entropy:
            bonus = losses.entropy_bonus(given.entropy, given.mask)
            total = total + entropy * losses.reduce(bonus, "token_mean", max_length=max_length)
        return total

    return lambda arrays: differentiated(loss, arrays["logp"], arrays)


def surrogate_inputs(arrays: Arrays, logp: jax.Array, mask: str = "mask", on_policy: bool = False) -> SurrogateInputs:
    """The inputs as a surrogate reads them, at these log-probabilities."""
    chosen = jnp.asarray(arrays[mask])
    old = jax.lax.stop_gradient(logp) if on_policy else jnp.asarray(arrays["old_logp"])
    return SurrogateInputs(
        logp=logp, old_logp=old, mask=chosen, groups=jnp.zeros(len(logp), int), rewards=jnp.asarray(arrays["rewards"]),
        advantages=jnp.broadcast_to(jnp.asarray(arrays["advantages"])[:, None], logp.shape),
        ref_logp=jnp.asarray(arrays["ref_logp"]), entropy=jnp.asarray(arrays["entropy"]))


def whole_sequence(surrogate: Surrogate) -> Numbers:
    """A surrogate that sees each answer as one token of the summed log-probability; a mean over answers."""
    def loss(logp: jax.Array, arrays: Arrays) -> jax.Array:
        given = surrogate_inputs(arrays, logp)
        logp, old = (jnp.where(given.mask, each, 0).sum(axis=1, keepdims=True) for each in (logp, given.old_logp))
        one = given._replace(logp=logp, old_logp=old, mask=jnp.ones_like(logp, bool),
                             advantages=given.advantages[:, :1])
        return losses.reduce(surrogate(one), "token_mean", max_length=LONGEST)

    return lambda arrays: differentiated(loss, arrays["logp"], arrays)


def gradient_only(numbers: Numbers) -> Numbers:
    """The same without its loss: for losses that differ by what has no gradient."""
    return lambda arrays: {"gradient": numbers(arrays)["gradient"]}


def kl(estimator: str) -> Numbers:
    """Sum over tokens of a KL estimate, and its gradient."""
    def loss(logp: jax.Array, arrays: Arrays) -> jax.Array:
        return losses.kl_penalty(surrogate_inputs(arrays, logp), estimator=estimator).values.sum()

    return lambda arrays: differentiated(loss, arrays["logp"], arrays)


def critic(clip: float) -> Numbers:
    """The value loss and its gradient with respect to the values."""
    def loss(values: jax.Array, arrays: Arrays) -> jax.Array:
        terms = losses.clipped_value(values, arrays["old_values"], arrays["returns"], arrays["mask"], clip=clip)
        return losses.reduce(terms, "token_mean", max_length=LONGEST)

    return lambda arrays: differentiated(loss, arrays["values"], arrays)


def estimate(estimator: Callable[[AdvantageInputs], Advantages], rewards: str = "rewards", *, group: int,
             compared: str | None = None) -> Numbers:
    """Advantages; `compared`: None everywhere, "varied" outside constant groups, "tokens" on tokens of answers only."""
    def numbers(arrays: Arrays) -> Arrays:
        mask = jnp.asarray(arrays["mask"])
        rows = len(mask)
        given = AdvantageInputs(
            jnp.asarray(arrays[rewards], jnp.float64), jnp.arange(rows) // group, mask.sum(axis=1), mask,
            values=jnp.asarray(arrays["values"]), token_rewards=jnp.asarray(arrays["token_rewards"]),
            reward_components=jnp.asarray(arrays["reward_parts"]))
        found = estimator(given)
        named = {"advantages": found.values} if found.returns is None else {
            "advantages": found.values, "returns": found.returns}
        varied = np.repeat(np.ptp(arrays[rewards].reshape(-1, group), axis=1) > 0, group)
        keep = {None: np.True_, "tokens": arrays["mask"], "varied": varied}[compared]
        return {name: only(value, keep) for name, value in named.items()}

    return in_float64(numbers)


def mismatch(level: str, **options: Any) -> Numbers:
    """Weights for a sampler whose log-probabilities are `ref_logp`: [N, T] of answers' tokens, or [N, 1]."""
    def numbers(arrays: Arrays) -> Arrays:
        mask = jnp.asarray(arrays["mask"])
        weights = losses.importance_weights(jnp.asarray(arrays["old_logp"]), jnp.asarray(arrays["ref_logp"]), mask,
                                            level=level, **options)
        return {"weights": weights[:, :1] if level == "sequence" else only(weights, arrays["mask"])}

    return in_float64(numbers)


def overlong(characters: int, max_length: int, buffer: int) -> Numbers:
    """DAPO's penalty for answers that are `characters` units long per token."""
    return in_float64(lambda arrays: {"penalty": np.asarray(advantages.overlong_penalty(
        characters * arrays["mask"].sum(axis=1), max_length=max_length, buffer=buffer))})


def pairs(loss: Callable[[PreferencePairs], jax.Array], *, prompt: bool = False,
          chosen: Callable[[jax.Array, jax.Array], jax.Array] | None = None) -> Numbers:
    """Mean loss of B pairs and its gradient with respect to each token's log-probability.

    prompt: the tokens of the prompt come first in the gradient, as TRL's have.
    chosen: a term to add, of the chosen rows' log-probabilities (prompt included) and mask.
    """
    def total(logp: jax.Array, arrays: Arrays) -> jax.Array:
        width = arrays["pair_prompt"].shape[1] if prompt else 0
        answer, mask = logp[:, width:], jnp.asarray(arrays["pair_mask"])
        half = len(mask) // 2
        sums, lengths = jnp.where(mask, answer, 0).sum(axis=1), mask.sum(axis=1)
        reference = jnp.where(mask, arrays["pair_ref"], 0).sum(axis=1)
        value = loss(PreferencePairs(sums[:half], sums[half:], lengths[:half], lengths[half:], reference[:half],
                                     reference[half:])).mean()
        whole = jnp.concatenate([jnp.ones((len(mask), width), bool), mask], axis=1)
        return value if chosen is None else value + chosen(logp[:half], whole[:half])

    def numbers(arrays: Arrays) -> Arrays:
        parts = [arrays["pair_prompt"], arrays["pair_logp"]] if prompt else [arrays["pair_logp"]]
        return differentiated(total, np.concatenate(parts, axis=1), arrays)

    return numbers


def nll(weight: float, *, skip: int = 0) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """weight * -log-probability of the chosen rows, a mean over all their tokens; the first `skip` columns left out."""
    def term(logp: jax.Array, mask: jax.Array) -> jax.Array:
        return weight * losses.reduce(losses.supervised(logp[:, skip:], mask[:, skip:]), "token_mean", max_length=1)

    return term


def bradley_terry(arrays: Arrays) -> Arrays:
    """The mean loss of B pairs of scores, the inputs' first column of values, and its gradient."""
    def loss(scores: jax.Array, arrays: Arrays) -> jax.Array:
        half = len(scores) // 2
        return losses.bradley_terry(scores[:half], scores[half:]).mean()

    return differentiated(loss, arrays["values"][:, 0], arrays)


def kto(**options: float) -> Numbers:
    """KTO's mean loss and its gradient with respect to each token's log-probability."""
    def loss(logp: jax.Array, arrays: Arrays) -> jax.Array:
        mask, other = arrays["pair_mask"], arrays["other_mask"]
        baseline = losses.kto_baseline(jnp.where(other, arrays["other_logp"], 0).sum(axis=1),
                                       jnp.where(other, arrays["other_ref"], 0).sum(axis=1))
        return losses.kto(jnp.where(mask, logp, 0).sum(axis=1), jnp.where(mask, arrays["pair_ref"], 0).sum(axis=1),
                          jnp.asarray(arrays["desirable"]), baseline, **options).mean()

    return lambda arrays: differentiated(loss, arrays["pair_logp"], arrays)


def only(values: jax.Array, keep: np.ndarray) -> np.ma.MaskedArray:
    """The values, of which those outside `keep` are not compared."""
    return np.ma.array(np.asarray(values), mask=~np.broadcast_to(keep, np.shape(values)))


def in_float64(numbers: Numbers) -> Numbers:
    """The same, computed in float64."""
    def computed(arrays: Arrays) -> Arrays:
        with jax.enable_x64(True):
            return {name: np.ma.asanyarray(value) for name, value in numbers(arrays).items()}

    return computed


def differentiated(loss: Callable[[jax.Array, Arrays], jax.Array], at: np.ndarray, arrays: Arrays) -> Arrays:
    """{"loss", "gradient"} of loss(at, arrays) with respect to `at`, in float64."""
    with jax.enable_x64(True):
        value, gradient = jax.value_and_grad(loss)(jnp.asarray(at), arrays)
    return {"loss": np.asarray(value), "gradient": np.asarray(gradient)}
