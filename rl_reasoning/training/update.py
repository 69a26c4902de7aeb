"""One jitted update: the gradient of an objective summed over micro-batches, then one optimizer step.

Every denominator is that of the whole update, computed before the first micro-batch, so any split gives the
same gradient.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rl_reasoning.losses.objective import Objective
from rl_reasoning.losses.reduction import aggregate
from rl_reasoning.losses.surrogate import SurrogateInputs
from rl_reasoning.losses.value import clipped_value
from rl_reasoning.models import value_head
from rl_reasoning.models.decoder import DecoderConfig, Parameters, branch_mask, hidden_states
from rl_reasoning.models.likelihood import token_logprobs
from rl_reasoning.training.batch import TrainBatch
from rl_reasoning.training.state import TrainState

Metrics = dict[str, jax.Array]


class Scores(NamedTuple):
    """What the current parameters say of each answer token: all [N, T]."""

    logp: jax.Array
    entropy: jax.Array
    values: jax.Array


def token_mask(batch: TrainBatch) -> jax.Array:
    """[N, T] bool: which tokens are an answer's; from lengths, since any id may be a real token."""
    return jnp.arange(batch.ids.shape[-1]) < batch.lengths[..., None]


def score(config: DecoderConfig, parameters: dict[str, Parameters], batch: TrainBatch, temperature: float,
          remat: bool) -> Scores:
    """Log-probabilities, entropies and values of one micro-batch; log-probabilities at the rollout's temperature."""
    mask = branch_mask(batch.segments, batch.branches)
    hidden, _ = hidden_states(config, parameters["policy"], batch.tokens, batch.positions, mask, remat=remat)
    predicting = hidden[batch.rows[:, None], batch.sources]
    logp, entropy = token_logprobs(config, parameters["policy"], predicting, batch.ids, temperature=temperature)
    critic = parameters.get("value")
    values = value_head.values(critic, predicting) if critic else jnp.zeros_like(logp)
    return Scores(logp, entropy, values)


def make_score(config: DecoderConfig, temperature: float) -> Callable[[dict[str, Parameters], TrainBatch], Scores]:
    """The jitted `score` of a batch with micro-batches: each field is [M, N, T]."""
    @jax.jit
    def run(parameters: dict[str, Parameters], batch: TrainBatch) -> Scores:
        return jax.lax.map(lambda part: score(config, parameters, part, temperature, remat=False), batch)

    return run


def make_update(config: DecoderConfig, objective: Objective, optimizer: optax.GradientTransformation, *,
                temperature: float, remat: bool) -> Callable[[TrainState, TrainBatch], tuple[TrainState, Metrics]]:
    """The jitted update; it donates its state.

    Metrics are means over the update's tokens unless their name says otherwise. An update whose gradient is not
    finite changes nothing and says `optimizer/skipped` 1.
    """
    loss = functools.partial(_micro_loss, config, objective, temperature, remat)

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state: TrainState, batch: TrainBatch) -> tuple[TrainState, Metrics]:
        totals = jnp.maximum(jax.vmap(functools.partial(_totals, objective))(batch).sum(axis=0), 1.0)

        def add(carry, part):
            gradient, (sums, maxima) = jax.grad(loss, has_aux=True)(state.parameters, part, totals)
            return (jax.tree.map(jnp.add, carry[0], gradient), jax.tree.map(jnp.add, carry[1], sums),
                    jax.tree.map(jnp.maximum, carry[2], maxima)), None

        first = jax.tree.map(lambda x: x[0], batch)
        sums, maxima = jax.eval_shape(loss, state.parameters, first, totals)[1]
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (state.parameters, sums, maxima))
        (gradient, sums, maxima), _ = jax.lax.scan(add, nothing, batch)
        state, applied = _apply(state, gradient, optimizer)
        return state, _metrics(sums, totals) | maxima | applied

    return update


def _totals(objective: Objective, batch: TrainBatch) -> jax.Array:
    """[3]: this part's share of the policy loss's denominator, of the tokens that count, and of all tokens."""
    mask = token_mask(batch)
    counted = mask * batch.weights[:, None]
    return jnp.stack([_aggregate(objective, counted)[1], counted.sum(), mask.sum().astype(counted.dtype)])


def _aggregate(objective: Objective, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    return aggregate(weights, objective.aggregation, max_length=objective.max_length)


def _micro_loss(config: DecoderConfig, objective: Objective, temperature: float, remat: bool,
                parameters: dict[str, Parameters], batch: TrainBatch,
                totals: jax.Array) -> tuple[jax.Array, tuple[Metrics, Metrics]]:
    """This part's share of the loss; its sums and maxima. totals: the whole update's, see `_totals`."""
    scores = score(config, parameters, batch, temperature, remat)
    tokens = token_mask(batch)
    mask = tokens & (batch.weights[:, None] > 0)
    counted = mask * batch.weights[:, None]
    terms = objective.surrogate(SurrogateInputs(
        logp=scores.logp, old_logp=batch.old_logprobs, advantages=batch.advantages, mask=mask, groups=batch.groups,
        rewards=batch.rewards, entropy=scores.entropy))
    token_weights, _ = _aggregate(objective, terms.weights * batch.weights[:, None])
    policy = jnp.sum(terms.values * token_weights) / totals[0]
    sums = terms.sums | {"entropy_sum": jnp.sum(jnp.where(tokens, scores.entropy, 0.0)), "loss/policy": policy}
    bonus = jnp.sum(jnp.where(mask, scores.entropy, 0.0) * counted) / totals[1]
    total = policy - objective.entropy * bonus
    if objective.value:
        error = clipped_value(scores.values, batch.values, batch.returns, mask, clip=objective.value_clip)
        value = jnp.sum(error.values * counted) / totals[1]
        total, sums = total + objective.value * value, sums | {"loss/value": value}
    moved = jnp.where(mask, jnp.abs(scores.logp - batch.old_logprobs), 0.0)
    return total, (sums, {"ratio/log_max": moved.max()})


def _apply(state: TrainState, gradient: dict[str, Parameters],
           optimizer: optax.GradientTransformation) -> tuple[TrainState, Metrics]:
    """One optimizer step, or none at all where the gradient is not finite."""
    norm = optax.tree.norm(gradient)
    updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.parameters)
    stepped = TrainState(optax.apply_updates(state.parameters, updates), optimizer_state, state.updates + 1)
    finite = jnp.isfinite(norm)
    kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), stepped, state)
    return kept, {"optimizer/gradient_norm": norm, "optimizer/skipped": 1.0 - finite}


_MEANS = {  # sums of the surrogate, as means over the tokens that count
    "kl_behaviour_sum": "policy/kl_behaviour",
    "ratio_sum": "ratio/mean",
    "clipped_positive": "ratio/clipped_positive",
    "clipped_negative": "ratio/clipped_negative",
}


def _metrics(sums: Metrics, totals: jax.Array) -> Metrics:
    """Sums over tokens become means under the names that people read; losses are divided already."""
    means = {_MEANS[name]: total / totals[1] for name, total in sums.items() if name in _MEANS}
    means["policy/entropy"] = sums["entropy_sum"] / totals[2]
    return means | {name: value for name, value in sums.items() if name.startswith("loss/")}
