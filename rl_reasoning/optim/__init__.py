"""The optimizer, from optax by name: warm-up and decay, clipped norm, masked weight decay, averaged parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rl_reasoning.config import Optimizer


def schedule(settings: Optimizer, updates: int) -> optax.Schedule:
    """Linear warm-up to the peak, then down to `decay_to` of it at the last of `updates`, in a line or by a cosine.

    A line to 0 is what analyses of the last iterate advise (arXiv 2310.07831).
    """
    peak, warmup = settings.learning_rate, settings.warmup
    rest = max(updates - warmup, 1)
    down = {"linear": optax.linear_schedule(peak, peak * settings.decay_to, rest),
            "cosine": optax.cosine_decay_schedule(peak, rest, settings.decay_to),
            "constant": optax.constant_schedule(peak)}[settings.schedule]
    # The first update is not thrown away on a rate of 0: the ramp starts one step in.
    ramp = optax.linear_schedule(peak / (warmup + 1), peak, max(warmup, 1))
    return optax.join_schedules([ramp, down], [warmup])


def decayed(parameters: Any) -> Any:
    """Which parameters weight decay shrinks: matrices, and not norms, biases or a critic's read-out."""
    def one(path: tuple[Any, ...], leaf: Any) -> bool:
        stacked = any(getattr(key, "key", None) == "layers" for key in path)
        return leaf.ndim - stacked >= 2

    return jax.tree_util.tree_map_with_path(one, parameters)


def _mask(settings: Optimizer) -> Callable[[Any], Any] | None:
    return decayed if settings.decayed == "matrices" else None


def _adamw(settings: Optimizer, rate: optax.Schedule) -> optax.GradientTransformation:
    """arXiv 1711.05101."""
    return optax.adamw(rate, settings.beta1, settings.beta2, weight_decay=settings.weight_decay,
                       mask=_mask(settings))


def _adafactor(settings: Optimizer, rate: optax.Schedule) -> optax.GradientTransformation:
    """arXiv 1804.04235: second moments of matrices by row and column, no first moment."""
    return optax.adafactor(rate, multiply_by_parameter_scale=False, clipping_threshold=None,
                           weight_decay_rate=settings.weight_decay or None, weight_decay_mask=_mask(settings))


def _muon(settings: Optimizer, rate: optax.Schedule) -> optax.GradientTransformation:
    """Muon (kellerjordan.github.io/posts/muon) for the layers' matrices, AdamW for the rest.

    Its steps are scaled to the size of AdamW's (arXiv 2502.16982), so one learning rate serves both.
    """
    def matrices(parameters: Any) -> Any:
        def one(path: tuple[Any, ...], leaf: Any) -> optax.contrib.MuonDimensionNumbers | None:
            stacked = any(getattr(key, "key", None) == "layers" for key in path)
            return optax.contrib.MuonDimensionNumbers(1, 2) if stacked and leaf.ndim == 3 else None

        return jax.tree_util.tree_map_with_path(one, parameters)

    return optax.contrib.muon(rate, adam_b1=settings.beta1, adam_b2=settings.beta2, weight_decay=settings.weight_decay,
                              weight_decay_mask=_mask(settings), adam_weight_decay=settings.weight_decay,
                              consistent_rms=0.2, muon_weight_dimension_numbers=matrices)


def _lion(settings: Optimizer, rate: optax.Schedule) -> optax.GradientTransformation:
    """arXiv 2302.06675: the sign of a momentum, one moment."""
    return optax.lion(rate, settings.beta1, settings.beta2, weight_decay=settings.weight_decay,
                       mask=_mask(settings))


def _sgd(settings: Optimizer, rate: optax.Schedule) -> optax.GradientTransformation:
    """Momentum `beta1`; weight decay is decoupled."""
    return optax.chain(optax.trace(settings.beta1) if settings.beta1 else optax.identity(),
                       optax.add_decayed_weights(settings.weight_decay, _mask(settings)),
                       optax.scale_by_learning_rate(rate))


OPTIMIZERS: dict[str, Callable[[Optimizer, optax.Schedule], optax.GradientTransformation]] = {
    "adamw": _adamw, "adafactor": _adafactor, "muon": _muon, "lion": _lion, "sgd": _sgd}


class Averaged(NamedTuple):
    """State of an optimizer with averaged parameters. inner: its own. average: of the parameters, float32."""

    inner: Any
    average: Any


def make(settings: Optimizer, updates: int) -> optax.GradientTransformation:
    """The optimizer of the settings after clipping the global gradient norm (0 never clips).

    Args: updates: how many there will be, for the schedule's end.
    """
    clip = _clipped(settings.clip_norm) if settings.clip_norm else optax.identity()
    chosen = OPTIMIZERS[settings.name](settings, schedule(settings, updates))
    optimizer = _in_type(optax.chain(clip, chosen), settings.dtype)
    return _averaging(optimizer, settings.average) if settings.average else optimizer


def _clipped(limit: float) -> optax.GradientTransformation:
    """`optax.clip_by_global_norm`, but by one factor: that is part of what follows and leaves no clipped gradient."""
    def clip(gradient: Any, _: Any) -> Any:
        factor = limit / jnp.maximum(optax.tree.norm(gradient), limit)
        return jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), gradient)

    return optax.stateless(clip)


def average_of(state: Any) -> Any:
    """The averaged parameters in an optimizer's state, or None where it keeps none."""
    found = [leaf for leaf in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, Averaged))
             if isinstance(leaf, Averaged)]
    return found[0].average if found else None


def _averaging(inner: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """Keeps an exponential average of the parameters after each update, beside the optimizer's own state."""
    def init(parameters: Any) -> Averaged:
        # A copy: the state is donated with the parameters, and no buffer may be donated twice.
        return Averaged(inner.init(parameters), jax.tree.map(lambda leaf: jnp.array(leaf, jnp.float32), parameters))

    def update(gradient: Any, state: Averaged, parameters: Any) -> tuple[Any, Averaged]:
        step, own = inner.update(gradient, state.inner, parameters)
        moved = optax.apply_updates(parameters, step)
        average = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new.astype(jnp.float32), state.average,
                               moved)
        return step, Averaged(own, average)

    return optax.GradientTransformation(init, update)


def _in_type(inner: optax.GradientTransformation, dtype: str) -> optax.GradientTransformation:
    """The transformation with its state and its arithmetic in one type, whatever the parameters have."""
    def cast(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)

    return optax.GradientTransformation(
        lambda parameters: inner.init(cast(parameters)),
        lambda gradient, state, parameters=None: inner.update(cast(gradient), state, cast(parameters)))


def policy_and_critic(settings: Optimizer, updates: int, critic_rate: float) -> optax.GradientTransformation:
    """The optimizer for parameters {"policy": ..., "value": ..., "critic": ...}; all but the policy learn
    `critic_rate` times as fast.
    """
    def scale(tree: dict) -> dict:
        return {name: part if name == "policy" else jax.tree.map(lambda leaf: leaf * critic_rate, part)
                for name, part in tree.items()}

    return optax.chain(make(settings, updates), optax.stateless(lambda tree, _: scale(tree)))
