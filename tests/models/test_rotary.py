"""Rotary scalings in closed form."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.models.architecture import DecoderConfig, RopeScaling
from rl_reasoning.models.rotary import frequencies, rotation, rotations, yarn_magnitude

PLAIN = DecoderConfig(vocabulary=8, layers=1, width=8, heads=1, kv_heads=1, head_dim=64, mlp=8)


def scaled(*values, **named):
    return dataclasses.replace(PLAIN, rope_scaling=RopeScaling(*values, **named))


def turns(original):
    return original * np.asarray(frequencies(PLAIN)) / (2 * math.pi)


def test_linear_divides_every_frequency():
    np.testing.assert_allclose(frequencies(scaled("linear", 4.0)), frequencies(PLAIN) / 4, rtol=1e-6)


def test_llama3_keeps_what_turns_often_and_stretches_what_turns_seldom():
    ratio = np.asarray(frequencies(scaled("llama3", 8.0, 512, 1.0, 4.0)) / frequencies(PLAIN))
    count = turns(512)
    np.testing.assert_allclose(ratio[count > 4], 1, rtol=1e-6)
    np.testing.assert_allclose(ratio[count < 1], 1 / 8, rtol=1e-6)
    between = (count > 1) & (count < 4)
    assert between.any()
    share = (count[between] - 1) / 3
    np.testing.assert_allclose(ratio[between], share + (1 - share) / 8, rtol=1e-5)


def test_yarn_keeps_the_first_dimensions_and_stretches_the_last():
    config = scaled("yarn", 4.0, 512, 1.0, 32.0, yarn_magnitude(4.0))
    ratio = np.asarray(frequencies(config) / frequencies(PLAIN))
    np.testing.assert_allclose(ratio[turns(512) > 64], 1, rtol=1e-6)
    np.testing.assert_allclose(ratio[turns(512) < 0.5], 1 / 4, rtol=1e-6)
    assert (np.diff(ratio) <= 1e-6).all()
    cosine = rotation(config, jnp.zeros((1, 1), jnp.int32)).cos
    np.testing.assert_allclose(cosine, 0.1 * math.log(4) + 1, rtol=1e-6)


@pytest.mark.parametrize("for_cpu", [False, True])
def test_a_table_has_the_rotations_of_its_positions(for_cpu):
    config, positions = scaled("llama3", 8.0, 512, 1.0, 4.0), jnp.array([[0, 3], [11, 7]])
    config = dataclasses.replace(config, for_cpu=for_cpu)
    for found, expected in zip(rotations(config, 12)(positions), rotation(config, positions), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("values", "message"), [
    (("ntk", 2.0), "'ntk' is unknown; known are linear, llama3, yarn"), (("linear", 0.0), "needs factor"),
    (("llama3", 8.0, 512, 4.0, 1.0), "0 < low < high")])
def test_scalings_that_cannot_be(values, message):
    with pytest.raises(ValueError, match=message):
        RopeScaling(*values)
