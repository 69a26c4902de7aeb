"""What is drawn follows the distribution that is reported (T29)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.config import Sampling
from rl_reasoning.sampling.draw import draw, draw_token, support_logprobs

DRAWS = 200_000


def chi_square(counts, probabilities):
    """Standardised statistic: about standard normal for the right probabilities."""
    expected = probabilities * counts.sum()
    seen = expected > 0
    statistic = ((counts - expected)[seen] ** 2 / expected[seen]).sum()
    freedom = seen.sum() - 1
    return (statistic - freedom) / np.sqrt(2 * freedom)


@pytest.mark.parametrize("settings", [
    Sampling(), Sampling(temperature=0.6), Sampling(top_k=4), Sampling(top_p=0.8),
    Sampling(temperature=1.5, top_k=6, top_p=0.9)])
@pytest.mark.parametrize("vocabulary", [11, 700])
def test_frequencies_follow_the_reported_log_probabilities(settings, vocabulary):
    raw = 2 * jax.random.normal(jax.random.key(5), (1, vocabulary))
    keys = jax.random.split(jax.random.key(6), DRAWS)
    logp = support_logprobs(raw, settings)
    ids = jax.jit(lambda k: draw(jnp.broadcast_to(logp, (len(k), vocabulary)), jax.vmap(jax.random.uniform)(k)))
    drawn = np.concatenate([np.asarray(ids(part)) for part in keys.reshape(20, -1)])
    counts = np.bincount(drawn, minlength=vocabulary)
    probabilities = np.exp(np.asarray(logp[0], np.float64))
    assert counts[probabilities == 0].sum() == 0
    assert abs(chi_square(counts, probabilities / probabilities.sum())) < 4


def test_top_p_keeps_the_token_that_crosses_the_mass_and_ties():
    probabilities = jnp.log(jnp.array([[0.4, 0.3, 0.15, 0.15]]))
    assert np.isfinite(support_logprobs(probabilities, Sampling(top_p=0.5)))[0].tolist() == [True, True, False, False]
    assert np.isfinite(support_logprobs(probabilities, Sampling(top_p=0.39)))[0].tolist() == [True, False, False, False]
    assert np.isfinite(support_logprobs(probabilities, Sampling(top_p=0.75)))[0].tolist() == [True, True, True, True]
    kept = np.exp(support_logprobs(probabilities, Sampling(top_p=0.5)))[0]
    np.testing.assert_allclose(kept[:2], [4 / 7, 3 / 7], rtol=1e-5)


@pytest.mark.parametrize("uniform", [0.0, 0.25, 0.999999, float(np.nextafter(np.float32(1), np.float32(0)))])
def test_never_draws_a_token_of_probability_zero(uniform):
    for alive in (0, 255, 256, 699):
        logp = jnp.full((1, 700), -jnp.inf).at[0, alive].set(0.0)
        assert int(draw(logp, jnp.array([uniform]))[0]) == alive


def test_inverse_cdf_is_exact_on_a_grid():
    logp = jnp.log(jnp.array([[0.25, 0.0, 0.5, 0.25]]))
    uniforms = jnp.array([0.0, 0.2499, 0.26, 0.74, 0.76, 0.99])
    drawn = draw(jnp.repeat(logp, 6, axis=0), uniforms)
    assert drawn.tolist() == [0, 0, 2, 2, 3, 3]


def test_temperature_zero_takes_the_likeliest_and_reports_temperature_one():
    raw = jnp.array([[0.0, 2.0, 1.0]])
    ids, logp = draw_token(raw, jax.random.split(jax.random.key(0), 1), Sampling(temperature=0.0))
    assert ids.tolist() == [1]
    np.testing.assert_allclose(logp, jax.nn.log_softmax(raw)[:, 1], rtol=1e-6)
