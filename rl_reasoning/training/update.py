"""One jitted update: the gradient of an objective summed over micro-batches, then one optimizer step.

Every denominator is that of the whole update, computed before the first micro-batch, so any split gives the
same gradient.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rl_reasoning.losses.objective import LossInputs, Objective, Totals, look_ahead, objective_loss, totals
from rl_reasoning.losses.surrogate import SurrogateInputs
from rl_reasoning.models import value_head
from rl_reasoning.models.decoder import DecoderConfig, Parameters, initialize
from rl_reasoning.models.likelihood import token_logprobs
from rl_reasoning.parallel import Layout
from rl_reasoning.training.batch import TrainBatch, shardings_of_batch
from rl_reasoning.training.compiler import options_for_cpu
from rl_reasoning.training.metrics import Metrics, Told
from rl_reasoning.training.state import TrainState, start, whole
from rl_reasoning.training.states import Memory, spots, states, token_mask


class Scores(NamedTuple):
    """What the current parameters say of each answer token: all [N, T].

    logp, entropy, collision: see `models.likelihood.TokenStatistics`. values: the critic's, zeros without one.
    """

    logp: jax.Array
    entropy: jax.Array
    collision: jax.Array
    values: jax.Array


class Chosen(NamedTuple):
    """Tokens chosen among all of an update before its first micro-batch: [M, N, T] bool, or None (`look_ahead`)."""

    selected: jax.Array | None = None
    teaches: jax.Array | None = None


def score(config: DecoderConfig, parameters: dict[str, Parameters], batch: TrainBatch, temperature: float,
          memory: Memory) -> Scores:
    """Scores of one micro-batch; log-probabilities at the rollout's temperature."""
    wanted = spots(batch)
    hidden = states(config, parameters["policy"], batch, wanted, memory)
    found = token_logprobs(config, parameters["policy"], hidden, wanted.ids, temperature=temperature,
                           budget=memory.logits)
    values = jnp.zeros_like(found.logp)
    if "value" in parameters:
        own = parameters.get("critic")
        trunk = states(config, own, batch, wanted, memory) if own else hidden
        values = value_head.values(parameters["value"], trunk)
    return Scores(*(wanted.per_answer(x, batch) for x in (*found, values)))


def _scores(config: DecoderConfig, parameters: dict[str, Parameters], batch: TrainBatch, temperature: float,
            memory: Memory) -> Scores:
    """[M, N, T]: without a backward pass, so nothing is kept for it."""
    without = memory._replace(remat="none")
    return jax.lax.map(lambda part: score(config, parameters, part, temperature, without), batch)


def make_score(config: DecoderConfig, temperature: float, memory: Memory = Memory(),
               layout: Layout | None = None) -> Callable[[dict[str, Parameters], TrainBatch], Scores]:
    """The jitted `score` of a batch with micro-batches: each field is [M, N, T]."""
    def run(parameters: dict[str, Parameters], batch: TrainBatch) -> Scores:
        with layout() if layout else contextlib.nullcontext():
            return _scores(config, parameters, batch, temperature, memory)

    if layout is None:
        return jax.jit(run)
    split = shardings_of_batch(layout)
    compiled = jax.jit(run, in_shardings=(None, split), out_shardings=layout.answers(1))
    return lambda parameters, batch: compiled(parameters, layout.spread(batch, split))


@dataclasses.dataclass(frozen=True)
class Update:
    """The jitted update of a state by a batch; it donates the state, but not its frozen weights: others hold them too.

    Attributes:
      compiled: (state without frozen weights, frozen weights, batch) -> (state without, metrics).
      nested: the same within another program, of which no part can be compiled in a way of its own.
      layout: where state and batch lie; None is one device.
    """

    compiled: Any
    nested: Any
    layout: Layout | None = None

    def __call__(self, state: TrainState, batch: TrainBatch) -> tuple[TrainState, Metrics]:
        batch = self.layout.spread(batch, shardings_of_batch(self.layout)) if self.layout else batch
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((state, batch)))
        program = self.nested if traced else self.compiled
        moved, metrics = program(state._replace(frozen={}), state.frozen, batch)
        return moved._replace(frozen=state.frozen), metrics

    def lower(self, state: TrainState, batch: TrainBatch) -> jax.stages.Lowered:
        """For ahead-of-time compilation: arguments may be shapes."""
        return self.compiled.lower(state._replace(frozen={}), state.frozen, batch)


def make_update(config: DecoderConfig, objective: Objective, optimizer: optax.GradientTransformation, *,
                temperature: float, key: jax.Array, memory: Memory = Memory(),
                layout: Layout | None = None) -> Update:
    """The update for an objective; compiled at its first call.

    Metrics are means over the update's tokens unless their name says otherwise. An update whose gradient is not
    finite, or in which no token counts, changes nothing and says `optimizer/skipped` or `optimizer/idle` 1.

    Args:
      key: of choices at random; each update folds in its number.
      memory: what bounds the memory of activations and logits.
      layout: where state and batch lie, and the batch's rows are packed for (`minibatches`); None is one device.
    """
    gradient_of = functools.partial(_gradient, config, objective, temperature, memory)

    def update(state: TrainState, frozen: Parameters, batch: TrainBatch) -> tuple[TrainState, Metrics]:
        with layout() if layout else contextlib.nullcontext():
            gradient, told = gradient_of(state, frozen, batch, key)
            if layout:
                gradient = jax.lax.with_sharding_constraint(gradient, layout.parameters(gradient))
            norm = optax.tree.norm(gradient)
            state = _apply(state, gradient, optimizer, jnp.isfinite(norm) & told.busy)
        return state, Metrics(told, norm)

    critic = objective.critic.model if objective.critic else None
    return Update(*_compile(update, layout, lambda: jax.eval_shape(lambda: start(
        config, initialize(config, jax.random.key(0)), optimizer, critic=critic))), layout)


def make_gradient(config: DecoderConfig, objective: Objective, *, temperature: float, key: jax.Array,
                  memory: Memory = Memory()) -> Callable[[TrainState, TrainBatch], dict[str, Parameters]]:
    """The jitted gradient that an update of the state by the batch would follow; the state stays as it is.

    Args: see `make_update`.
    """
    def gradient(state: TrainState, batch: TrainBatch) -> dict[str, Parameters]:
        return _gradient(config, objective, temperature, memory, state, state.frozen, batch, key)[0]

    return jax.jit(gradient)


def _compile(update: Callable, layout: Layout | None, shapes: Callable[[], TrainState]) -> tuple[Callable, Callable]:
    """The update, jitted: its state is donated, and on a mesh all that goes in and out has its place.

    Returns: as a program of its own, and as a part of another.
    """
    on_cpu = (layout.mesh.devices.flat[0].platform if layout else jax.default_backend()) == "cpu"
    jitted = functools.partial(jax.jit, update, donate_argnums=0)
    if layout:
        placed = layout.parameters(shapes())
        moving = placed._replace(frozen={})
        jitted = functools.partial(jitted, in_shardings=(moving, placed.frozen, shardings_of_batch(layout)),
                                   out_shardings=(moving, layout.whole))
    return jitted(compiler_options=options_for_cpu() if on_cpu else None), jitted()


def _gradient(config: DecoderConfig, objective: Objective, temperature: float, memory: Memory, state: TrainState,
              frozen: Parameters, batch: TrainBatch, key: jax.Array) -> tuple[dict[str, Parameters], Told]:
    """The update's gradient, and what came with it."""
    shares = jax.vmap(lambda part: totals(objective, _counted(part), token_mask(part), part.rewards))(batch)
    counts = jax.tree.map(lambda share: share.sum(), shares)
    total = jax.tree.map(lambda count: jnp.maximum(count, 1), counts)
    chosen = Chosen()
    if objective.looks_ahead:
        chosen = _choose(config, objective, temperature, memory, whole(state.parameters, frozen), batch,
                         jax.random.fold_in(key, state.updates))
    part_loss = functools.partial(_part_loss, config, objective, temperature, memory, total=total)
    gradient, sums, furthest = _accumulate(lambda trained, part: part_loss(whole(trained, frozen), part),
                                           state.parameters, (batch, chosen))
    return gradient, Told(sums, total, furthest, counts.tokens > 0)


def _counted(batch: TrainBatch) -> jax.Array:
    """[N, T] weights, 0 beyond the answers."""
    return jnp.where(token_mask(batch), batch.weights, 0.0)


def _choose(config: DecoderConfig, objective: Objective, temperature: float, memory: Memory,
            parameters: dict[str, Parameters], batch: TrainBatch, key: jax.Array) -> Chosen:
    """One more forward pass over the whole update, for objectives that rank its tokens."""
    scores = _scores(config, parameters, batch, temperature, memory)
    parts = jax.vmap(_surrogate_inputs)(batch, scores, Chosen())
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), parts)
    found = look_ahead(objective, flat._replace(key=key))
    return Chosen(*(None if x is None else x.reshape(batch.ids.shape) for x in found))


def _surrogate_inputs(batch: TrainBatch, scores: Scores, chosen: Chosen) -> SurrogateInputs:
    return SurrogateInputs(
        logp=scores.logp, old_logp=batch.old_logprobs, advantages=batch.advantages, mask=_counted(batch) > 0,
        groups=batch.groups, rewards=batch.rewards, ref_logp=batch.ref_logprobs, entropy=scores.entropy,
        selected=chosen.selected)


def _part_loss(config: DecoderConfig, objective: Objective, temperature: float, memory: Memory,
               parameters: dict[str, Parameters], part: tuple[TrainBatch, Chosen],
               total: Totals) -> tuple[jax.Array, tuple[dict[str, jax.Array], jax.Array]]:
    """A micro-batch's share of the loss; its sums, and the largest log-ratio to the old policy."""
    batch, chosen = part
    scores = score(config, parameters, batch, temperature, memory)
    inputs = _surrogate_inputs(batch, scores, chosen)
    answers = token_mask(batch)
    loss, sums = objective_loss(objective, LossInputs(
        inputs, answers, _counted(batch), jnp.where(answers, batch.scale, 0.0), scores.collision, scores.values,
        batch.values, batch.returns, chosen.teaches), total)
    moved = jnp.where(inputs.mask, jnp.abs(scores.logp - batch.old_logprobs), 0.0)
    return loss, (sums, moved.max())


def _accumulate(loss: Callable, parameters: dict[str, Parameters],
                parts: tuple[TrainBatch, Chosen]) -> tuple[dict[str, Parameters], dict[str, jax.Array], jax.Array]:
    """Gradient and sums added up, and the maximum taken, over the micro-batches."""
    def add(carry: Any, part: tuple[TrainBatch, Chosen]) -> Any:
        gradient, (sums, largest) = jax.grad(loss, has_aux=True)(parameters, part)
        total, so_far = jax.tree.map(jnp.add, carry[:2], (gradient, sums)), carry[2]
        return (*total, jnp.maximum(so_far, largest)), None

    first = jax.tree.map(lambda x: x[0], parts)
    if len(parts[0].ids) == 1:  # traced once
        gradient, found = jax.grad(loss, has_aux=True)(parameters, first)
        return gradient, *found
    sums, largest = jax.eval_shape(loss, parameters, first)[1]
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (parameters, sums, largest))
    return jax.lax.scan(add, nothing, parts)[0]


def _apply(state: TrainState, gradient: dict[str, Parameters], optimizer: optax.GradientTransformation,
           wanted: jax.Array) -> TrainState:
    """One optimizer step, or none at all unless it is wanted."""
    updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.parameters)
    stepped = state._replace(parameters=optax.apply_updates(state.parameters, updates), optimizer=optimizer_state,
                             updates=state.updates + 1)
    return jax.tree.map(lambda new, old: jnp.where(wanted, new, old), stepped, state)
