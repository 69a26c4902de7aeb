"""The worked example that the golden values of the loss tests come from, and how to differentiate it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.losses import SurrogateInputs, reduce
from tests.compiling import COMPILE_FAST

LENGTHS = (3, 2, 4)


def rows(*values):
    """Ragged rows -> [3, 4] float64, NaN in the masked slots: a golden value must not depend on them."""
    out = np.full((3, 4), np.nan)
    for row, entries in zip(out, values, strict=True):
        row[: len(entries)] = entries
    return out


@pytest.fixture
def ragged():
    return rows


@pytest.fixture
def x64():
    """Golden values have 7 digits: compute in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def example(x64):
    """Three sequences of 3, 2 and 4 tokens in one group."""
    mask = np.arange(4)[None, :] < np.array(LENGTHS)[:, None]
    logp = rows([-0.5, -1.2, -0.3], [-2.0, -0.7], [-0.1, -0.9, -1.5, -0.4])
    ratio = rows([0.1, -0.3, 0.5], [0.25, -0.6], [-0.05, 0.4, 0.0, -0.2])
    reference = rows([0.2, -0.1, 0.3], [-0.4, 0.1], [0.05, 0.0, 0.6, -0.3])
    return SurrogateInputs(
        logp=logp, old_logp=logp - ratio, advantages=np.where(mask, np.array([[1.0], [-1.0], [0.5]]), np.nan),
        mask=mask, groups=np.zeros(3, np.int32), rewards=np.array([1.0, 0.0, 0.5]), ref_logp=logp - reference,
        entropy=rows([0.9, 1.4, 0.3], [2.2, 0.5], [0.1, 1.1, 0.7, 1.8]))


@pytest.fixture
def sampler_log_ratio():
    """old_logp - sampler_logp of the example."""
    return rows([0.2, -0.1, 0.9], [-0.8, 0.05], [0.3, 0.1, -0.4, 0.6])


@functools.cache
def differentiated(surrogate, mode, max_length, denominator, options):
    """The compiled loss and gradient, shared by the tests that ask for the same."""
    def loss(logp, inputs):
        terms = surrogate(inputs._replace(logp=logp), **dict(options))
        return reduce(terms, mode, max_length=max_length, denominator=denominator)

    return jax.jit(jax.value_and_grad(loss), compiler_options=COMPILE_FAST)


@pytest.fixture
def loss_and_gradient():
    """(surrogate, inputs, mode, options) -> loss and its gradient with respect to logp [N, T]."""

    def run(surrogate, inputs, mode="token_mean", max_length=4, denominator=None, **options):
        compiled = differentiated(surrogate, mode, max_length, denominator, tuple(options.items()))
        inputs = jax.tree.map(jnp.asarray, inputs)
        return compiled(inputs.logp, inputs)

    return run
