import jax
import jax.numpy as jnp
import numpy as np

from rl_reasoning.models import value_head


def test_values_start_at_zero_and_are_linear_in_the_hidden_state(config):
    parameters = value_head.initialize(config)
    hidden = jax.random.normal(jax.random.key(0), (3, 2, config.width))
    np.testing.assert_array_equal(value_head.values(parameters, hidden), np.zeros((3, 2)))
    parameters = {"kernel": jnp.arange(config.width, dtype=jnp.float32), "bias": jnp.float32(2)}
    np.testing.assert_allclose(value_head.values(parameters, hidden), hidden @ np.arange(config.width) + 2, rtol=1e-5)
