"""Optimizers by name: schedules, what is decayed, averages, number types; each makes a quadratic smaller."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rl_reasoning import optim
from rl_reasoning.config import Mesh, Optimizer
from rl_reasoning.parallel import make_layout

TARGET = {"layers": {"mlp": {"up": {"kernel": jnp.linspace(-1, 1, 24).reshape(2, 3, 4)}},
                     "norm": {"scale": jnp.ones((2, 3))}}, "embed": {"embedding": jnp.ones((5, 3))}}
START = jax.tree.map(jnp.zeros_like, TARGET)


def distance(parameters):
    return sum(jnp.square(a - b).sum() for a, b in zip(jax.tree.leaves(parameters), jax.tree.leaves(TARGET),
                                                       strict=True))


def trained(settings, steps):
    optimizer = optim.make(settings, steps)

    def step(carry, _):
        parameters, state = carry
        change, state = optimizer.update(jax.grad(distance)(parameters), state, parameters)
        parameters = optax.apply_updates(parameters, change)
        return (parameters, state), parameters

    return jax.jit(lambda: jax.lax.scan(step, (START, optimizer.init(START)), None, length=steps))()


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_every_optimizer_comes_closer(name):
    rate = 0.02 if name == "sgd" else 0.1
    (parameters, _), _ = trained(Optimizer(name=name, learning_rate=rate, warmup=0, decay_to=0.0, dtype="float32"), 60)
    assert distance(parameters) < 0.2 * distance(START)


@pytest.mark.parametrize(("name", "middle", "end"), [("linear", 0.55, 0.1), ("cosine", 0.55, 0.1),
                                                     ("constant", 1.0, 1.0)])
def test_schedules_reach_what_they_say(name, middle, end):
    rate = optim.schedule(Optimizer(learning_rate=1.0, warmup=4, decay_to=0.1, schedule=name), 104)
    np.testing.assert_allclose([rate(0), rate(3), rate(4), rate(54), rate(104)], [0.2, 0.8, 1.0, middle, end],
                               rtol=1e-6)


def test_a_schedule_that_stays_is_the_peak_to_the_last_bit():
    rate = optim.schedule(Optimizer(learning_rate=2e-5, decay_to=1.0), 280)
    assert {float(rate(step)) for step in range(8, 280)} == {float(np.float32(2e-5))}


def test_weight_decay_spares_norms_where_asked():
    """Without a gradient, decay alone moves parameters: w - rate * decay * w."""
    for decayed, norm in (("all", 0.98), ("matrices", 1.0)):
        settings = Optimizer(learning_rate=0.1, warmup=0, weight_decay=0.2, decayed=decayed)
        optimizer = optim.make(settings, 10)
        change, _ = optimizer.update(START, optimizer.init(TARGET), TARGET)
        moved = optax.apply_updates(TARGET, change)
        np.testing.assert_allclose(moved["layers"]["norm"]["scale"], norm, rtol=1e-6)
        np.testing.assert_allclose(moved["embed"]["embedding"], 0.98, rtol=1e-6)


@pytest.mark.parametrize("size", [0.0, 1e-3, 7.0, jnp.inf, jnp.nan])
def test_gradients_are_clipped_as_optax_clips_them(size):
    """By a norm of 1; where one is not finite, none of what comes out is to be trusted, and the update skips it."""
    gradient = jax.tree.map(lambda leaf: size * leaf, TARGET)
    optimizer = optim.make(Optimizer(name="sgd", learning_rate=1.0, schedule="constant", warmup=0, beta1=0.0,
                                     clip_norm=1.0), 1)
    expected, _ = optax.clip_by_global_norm(1.0).update(gradient, optax.EmptyState())
    found, _ = optimizer.update(gradient, optimizer.init(START), START)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(-one, other, rtol=1e-6), found, expected)


def test_averages_follow_the_parameters():
    (_, state), path = trained(Optimizer(learning_rate=0.1, warmup=0, average=0.75), 8)
    expected = jax.tree.map(np.asarray, START)
    for parameters in (jax.tree.map(lambda all_, step=step: np.asarray(all_[step]), path) for step in range(8)):
        expected = jax.tree.map(lambda mean, now: 0.75 * mean + 0.25 * now, expected, parameters)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), optim.average_of(state), expected)
    assert optim.average_of(trained(Optimizer(), 1)[0][1]) is None


def test_moments_have_the_type_that_was_asked_for_and_lie_as_their_parameters():
    optimizer = optim.make(Optimizer(name="muon", dtype="bfloat16", average=0.9), 10)
    wide = {"layers": {"mlp": {"up": {"kernel": jnp.zeros((2, 8, 16))}}}, "embed": {"embedding": jnp.zeros((4, 8))}}
    state = optimizer.init(wide)
    placed = make_layout(Mesh(fsdp=8), {"width": 8}).place(state)
    shapes = {(leaf.shape, leaf.addressable_shards[0].data.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(placed)
              if leaf.ndim}
    assert ((2, 8, 16), (2, 1, 16), "bfloat16") in shapes
    assert ((4, 8), (4, 1), "float32") in shapes  # averages stay in float32
