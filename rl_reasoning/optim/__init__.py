"""The optimizer, as an optax transformation: AdamW, warm-up, clipped global norm."""

from typing import Any

import jax
import optax

from rl_reasoning.config import Optimizer


def schedule(settings: Optimizer, updates: int) -> optax.Schedule:
    """Linear warm-up to the peak, then a cosine to `decay_to` of it at the last of `updates`."""
    peak, warmup = settings.learning_rate, settings.warmup
    cosine = optax.cosine_decay_schedule(peak, max(updates - warmup, 1), settings.decay_to)
    # The first update is not thrown away on a rate of 0: the ramp starts one step in.
    ramp = optax.linear_schedule(peak / (warmup + 1), peak, max(warmup, 1))
    return optax.join_schedules([ramp, cosine], [warmup])


def adamw(settings: Optimizer, updates: int) -> optax.GradientTransformation:
    """AdamW (arXiv 1711.05101) after clipping the global gradient norm (0 never clips).

    Args: updates: how many there will be, for the schedule's end.
    """
    clip = optax.clip_by_global_norm(settings.clip_norm) if settings.clip_norm else optax.identity()
    return _in_type(optax.chain(clip, optax.adamw(
        schedule(settings, updates), b1=settings.beta1, b2=settings.beta2, weight_decay=settings.weight_decay)),
        settings.dtype)


def _in_type(inner: optax.GradientTransformation, dtype: str) -> optax.GradientTransformation:
    """The transformation with its state and its arithmetic in one type, whatever the parameters have."""
    def cast(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)

    return optax.GradientTransformation(
        lambda parameters: inner.init(cast(parameters)),
        lambda gradient, state, parameters=None: inner.update(cast(gradient), state, cast(parameters)))


def policy_and_critic(settings: Optimizer, updates: int, critic_rate: float) -> optax.GradientTransformation:
    """AdamW for parameters {"policy": ..., "value": ..., "critic": ...}; all but the policy learn `critic_rate` times
    as fast.
    """
    def scale(tree: dict) -> dict:
        return {name: part if name == "policy" else jax.tree.map(lambda leaf: leaf * critic_rate, part)
                for name, part in tree.items()}

    return optax.chain(adamw(settings, updates), optax.stateless(lambda tree, _: scale(tree)))
