"""What is drawn follows the distribution that is reported (T29)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.config import Sampling
from rl_reasoning.sampling.draw import declared_logprobs, draw, draw_token
from rl_reasoning.sampling.rules import make_rules

DRAWS = 200_000
STOP = 2


def declared(raw, settings, counts=None):
    counts = jnp.zeros(len(raw), jnp.int32) if counts is None else counts
    return np.asarray(declared_logprobs(raw, counts, make_rules(settings, raw.shape[-1], STOP)))


def reference(raw, settings):
    """The same in numpy, by sorting; no ties."""
    logits = np.asarray(raw, np.float64)[0] / settings.temperature
    order = np.argsort(-logits)
    p = np.exp(logits[order] - logits.max())
    p /= p.sum()
    if settings.top_k:
        p[settings.top_k:] = 0
    p /= p.sum()
    p[np.cumsum(p) - p >= settings.top_p] = 0
    p[p < settings.min_p * p[0]] = 0
    found = np.zeros_like(p)
    found[order] = p / p.sum()
    return found


def chi_square(counts, probabilities):
    """Standardised statistic: about standard normal for the right probabilities."""
    expected = probabilities * counts.sum()
    seen = expected > 0
    statistic = ((counts - expected)[seen] ** 2 / expected[seen]).sum()
    freedom = seen.sum() - 1
    return (statistic - freedom) / np.sqrt(2 * freedom)


@functools.partial(jax.jit, static_argnums=2)
def ten_thousand(raw, keys, vocabulary, rules):
    uniforms = jax.vmap(jax.random.uniform)(keys)
    zeros = jnp.zeros(len(keys), jnp.int32)
    return draw_token(jnp.broadcast_to(raw, (len(keys), vocabulary)), uniforms, zeros, rules)


@pytest.mark.parametrize("settings", [
    Sampling(), Sampling(temperature=0.6), Sampling(top_k=4), Sampling(top_p=0.8), Sampling(min_p=0.2),
    Sampling(temperature=1.5, top_k=6, top_p=0.9, min_p=0.05)], ids=str)
@pytest.mark.parametrize("vocabulary", [11, pytest.param(700, marks=pytest.mark.slow)])
def test_frequencies_follow_the_reported_log_probabilities(settings, vocabulary):
    """T29: counts of 200,000 draws, and every draw's own log-probability, against sorting in numpy."""
    raw = 2 * jax.random.normal(jax.random.key(5), (1, vocabulary))
    keys, expected = jax.random.split(jax.random.key(6), DRAWS).reshape(20, -1), reference(raw, settings)
    rules = make_rules(settings, vocabulary, STOP)
    parts = [ten_thousand(raw, part, vocabulary, rules) for part in keys]
    ids, logp = (np.concatenate([np.asarray(part[i]) for part in parts]) for i in (0, 1))
    counts = np.bincount(ids, minlength=vocabulary)
    assert counts[expected == 0].sum() == 0
    assert abs(chi_square(counts, expected)) < 4
    np.testing.assert_allclose(logp, np.log(expected[ids]), atol=1e-5)


def test_forbidden_tokens_and_early_stops_have_no_probability():
    raw = jax.random.normal(jax.random.key(1), (3, 11))
    logp = declared(raw, Sampling(min_tokens=2, forbidden_tokens=("7", "0")), jnp.array([0, 1, 2]))
    assert np.isneginf(logp[:, [0, 7]]).all()
    assert np.isneginf(logp[:, STOP]).tolist() == [True, True, False]
    np.testing.assert_allclose(np.exp(logp).sum(axis=1), 1, rtol=1e-5)


def test_top_p_keeps_the_token_that_crosses_the_mass_and_ties():
    raw = jnp.log(jnp.array([[0.4, 0.3, 0.15, 0.15]]))
    assert np.isfinite(declared(raw, Sampling(top_p=0.5)))[0].tolist() == [True, True, False, False]
    assert np.isfinite(declared(raw, Sampling(top_p=0.39)))[0].tolist() == [True, False, False, False]
    assert np.isfinite(declared(raw, Sampling(top_p=0.75)))[0].tolist() == [True, True, True, True]
    assert np.isfinite(declared(raw, Sampling(top_k=3)))[0].tolist() == [True, True, True, True]
    np.testing.assert_allclose(np.exp(declared(raw, Sampling(top_p=0.5)))[0, :2], [4 / 7, 3 / 7], rtol=1e-5)
    np.testing.assert_allclose(np.exp(declared(raw, Sampling(top_p=0.5, logprobs="policy")))[0], np.exp(raw)[0],
                               rtol=1e-5)


def test_truncation_is_exact_on_large_vocabularies():
    """Near ties, probabilities that underflow, and tokens that cannot be: the support is that of a sort."""
    raw = jnp.round(8 * jax.random.normal(jax.random.key(2), (6, 5000)), 3).at[:, :50].set(-jnp.inf)
    raw = raw.at[0].multiply(30).at[1].multiply(0.1)
    for settings in (Sampling(top_k=40), Sampling(top_k=4990), Sampling(top_k=1)):
        ordered = -np.sort(-np.asarray(raw), axis=1)
        kept = (raw >= ordered[:, settings.top_k - 1, None]) & np.isfinite(raw)
        gap = np.asarray(raw.max(axis=1, keepdims=True) - raw)
        certain = (gap < 80) | (gap > 110)  # in between, exp is or is not 0
        np.testing.assert_array_equal(np.isfinite(declared(raw, settings))[certain], (kept & (gap < 80))[certain])


def test_the_last_token_kept_is_kept_whatever_the_compiler_rounds():
    """Inside and outside of a map over rows: the support is the same, and it reaches the mass."""
    raw, rules = 3 * jax.random.normal(jax.random.key(4), (40, 3, 19)), make_rules(Sampling(0.6, top_p=0.9), 19, STOP)
    counts = jnp.zeros(3, jnp.int32)
    mapped = jax.jit(jax.vmap(lambda rows: declared_logprobs(rows, counts, rules)))(raw)
    for rows, found in zip(raw, mapped, strict=True):
        np.testing.assert_array_equal(np.isfinite(found), np.isfinite(declared_logprobs(rows, counts, rules)))
        kept = jnp.where(np.isfinite(found), jax.nn.softmax(rows / 0.6), 0).sum(axis=1)
        assert (kept >= 0.9 - 1e-6).all()


@pytest.mark.parametrize("uniform", [0.0, 0.25, 0.999999, float(np.nextafter(np.float32(1), np.float32(0)))])
def test_never_draws_a_token_of_probability_zero(uniform):
    for alive in (0, 255, 256, 699):
        weights = jnp.zeros((1, 700)).at[0, alive].set(1.0)
        assert int(draw(weights, jnp.array([uniform]))[0]) == alive


def test_inverse_cdf_is_exact_on_a_grid():
    weights = jnp.array([[0.25, 0.0, 0.5, 0.25]])
    uniforms = jnp.array([0.0, 0.2499, 0.26, 0.74, 0.76, 0.99])
    drawn = draw(jnp.repeat(weights, 6, axis=0), uniforms)
    assert drawn.tolist() == [0, 0, 2, 2, 3, 3]


@pytest.mark.parametrize("vocabulary", [3, 5000])
def test_temperature_zero_takes_the_first_of_the_likeliest_and_reports_temperature_one(vocabulary):
    raw = jax.random.normal(jax.random.key(8), (4, vocabulary)).at[:, 1].set(9.0).at[1:, 2].set(9.0)
    rules = make_rules(Sampling(temperature=0.0), vocabulary, 0)
    drawn = draw_token(raw, jnp.full(4, 0.9), jnp.zeros(4, jnp.int32), rules)
    assert drawn.ids.tolist() == [1] * 4
    np.testing.assert_allclose(drawn.logprobs, jax.nn.log_softmax(raw)[:, 1], rtol=1e-5)


@pytest.mark.parametrize("settings", [
    Sampling(), Sampling(temperature=0.0),
    Sampling(temperature=1.5, top_k=40, top_p=0.9, min_p=0.01, min_tokens=2, forbidden_tokens=("3", "9"))], ids=str)
@pytest.mark.parametrize("vocabulary", [11, 700])
def test_a_vocabulary_along_the_first_axis_is_drawn_from_alike(settings, vocabulary):
    raw, uniforms = jax.random.normal(jax.random.key(3), (64, vocabulary)), jax.random.uniform(jax.random.key(4), (64,))
    counts, rules = jnp.arange(64) % 4, make_rules(settings, vocabulary, STOP)
    by_row, turned = draw_token(raw, uniforms, counts, rules), draw_token(raw.T, uniforms, counts, rules, axis=0)
    np.testing.assert_array_equal(turned.ids, by_row.ids)
    np.testing.assert_array_equal(turned.finite, by_row.finite)
    np.testing.assert_allclose(turned.logprobs, by_row.logprobs, atol=1e-5)


def test_what_is_no_distribution_is_said():
    raw = jnp.zeros((4, 5)).at[0, 1].set(jnp.nan).at[1, 1].set(jnp.inf).at[2, 1].set(-jnp.inf)
    drawn = draw_token(raw, jnp.full(4, 0.5), jnp.zeros(4, jnp.int32), make_rules(Sampling(), 5, 0))
    assert drawn.finite.tolist() == [False, False, True, True]
