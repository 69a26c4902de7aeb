"""Random keys, and the numbers made from them on the host."""

import jax
import numpy as np

from rl_reasoning import keys


def test_numbers_made_on_the_host_are_those_of_jax_to_the_bit():
    """Any problem and sample numbers, the largest too; and nothing is shared by two answers or two steps."""
    problems = np.array([0, 1, 77, 2**32 - 1], np.uint32)
    samples = np.array([3, 0, 2**31 - 1, 5], np.int32)
    key = keys.derive(5, keys.Role.ROLLOUT, 9)
    found = keys.uniforms(key, problems, samples, 3)
    wanted = [[float(jax.random.uniform(jax.random.fold_in(each, token))) for token in range(3)]
              for each in keys.per_sample(key, problems, samples)]
    np.testing.assert_array_equal(found, np.asarray(wanted, np.float32))
    assert found.dtype == np.float32
    later = keys.uniforms(keys.derive(5, keys.Role.ROLLOUT, 10), problems, samples, 3)
    assert len({*found.ravel(), *later.ravel()}) == 24


def test_numbers_lie_evenly_from_0_to_below_1():
    found = keys.uniforms(jax.random.key(1), np.arange(100), np.arange(100), 1000).ravel()
    assert 0 <= found.min() < 1e-4 < 1 - 1e-4 < found.max() < 1
    counts = np.histogram(found, 50, (0, 1))[0]
    assert abs(((counts - 2000) ** 2 / 2000).sum() - 49) < 4 * np.sqrt(2 * 49)
