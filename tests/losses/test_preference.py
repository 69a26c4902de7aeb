import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.losses import PreferencePairs, asft, bradley_terry, dpo, ipo, kto, kto_baseline, orpo, simpo
from rl_reasoning.losses.preference import log_odds

A, B = np.log(0.6), np.log(0.3)
WITH_REFERENCE = [dpo, ipo]
BY_MEANS = [simpo, orpo, asft]


def pair(chosen=A, rejected=B, chosen_length=1, rejected_length=1, ref_chosen=-0.9, ref_rejected=-1.1):
    return PreferencePairs(*(jnp.asarray([x], float) for x in (
        chosen, rejected, chosen_length, rejected_length, ref_chosen, ref_rejected)))


def loss_and_gradients(loss, pairs, **options):
    def value(chosen, rejected):
        return loss(pairs._replace(chosen=chosen, rejected=rejected), **options).sum()

    result, gradients = jax.value_and_grad(value, argnums=(0, 1))(pairs.chosen, pairs.rejected)
    return float(result), float(gradients[0][0]), float(gradients[1][0])


@pytest.mark.parametrize(("loss", "options", "expected"), [
    (asft, {}, (0.5975757, -1.1, 0.0428571)), (orpo, {}, (0.5359571, -1.0555556, 0.0317460)),
    (simpo, {"beta": 2.0, "margin": 0.5}, (0.3451348, -0.5837503, 0.5837503))])
def test_golden(loss, options, expected, x64):
    np.testing.assert_allclose(loss_and_gradients(loss, pair(), **options), expected, atol=1e-7)


def test_dpo_closed_form(x64):
    h = (A + 0.9) - (B + 1.1)
    slope = 0.1 / (1 + np.exp(0.1 * h))
    np.testing.assert_allclose(loss_and_gradients(dpo, pair()), (np.log1p(np.exp(-0.1 * h)), -slope, slope))


def test_ipo_closed_form(x64):
    h = (-4.0 + 3.0) / 2 - (-9.0 + 6.0) / 5
    pairs = pair(-4.0, -9.0, 2, 5, -3.0, -6.0)
    error = h - 1 / (2 * 0.25)
    np.testing.assert_allclose(loss_and_gradients(ipo, pairs, beta=0.25), (error**2, error, -2 * error / 5))


def test_asft_with_beta(x64):
    beta, weight = 2.0, 0.3
    odds = [np.log(p / (1 - p)) for p in (0.6, 0.3)]
    expected = -A + weight * (np.log1p(np.exp(-beta * odds[0])) + np.log1p(np.exp(beta * odds[1])))
    value, by_chosen, by_rejected = loss_and_gradients(asft, pair(), beta=beta, weight=weight)
    np.testing.assert_allclose(value, expected)
    np.testing.assert_allclose(by_chosen, -1 - weight * beta / (1 + np.exp(beta * odds[0])) / 0.4)
    np.testing.assert_allclose(by_rejected, weight * beta / (1 + np.exp(-beta * odds[1])) / 0.7)


def test_orpo_aligns_no_harder_than_asft(x64):
    for p, q in ((0.6, 0.3), (0.2, 0.7), (0.5, 0.5)):
        pairs = pair(np.log(p), np.log(q))
        gap = loss_and_gradients(orpo, pairs, weight=1.0)[0] - loss_and_gradients(asft, pairs, weight=1.0)[0]
        np.testing.assert_allclose(gap, np.log(p * (1 - q) + q * (1 - p)), atol=1e-12)


def test_indifference_is_worth_ln_2(x64):
    same = pair(-0.9, -1.1)
    np.testing.assert_allclose(loss_and_gradients(dpo, same)[0], np.log(2))
    np.testing.assert_allclose(loss_and_gradients(orpo, pair(A, A), weight=1.0)[0] + A, np.log(2))
    np.testing.assert_allclose(bradley_terry(jnp.ones(1), jnp.ones(1)), np.log(2))


def test_dpo_ignores_a_constant_added_to_both_answers(x64):
    np.testing.assert_allclose(loss_and_gradients(dpo, pair(A + 2, B + 2)), loss_and_gradients(dpo, pair()))


@pytest.mark.parametrize("loss", BY_MEANS)
def test_mean_losses_ignore_repeated_answers(loss, x64):
    doubled = pair(2 * A, 2 * B, 2, 2)
    np.testing.assert_allclose(loss_and_gradients(loss, doubled)[0], loss_and_gradients(loss, pair())[0])


@pytest.mark.parametrize("loss", [dpo, simpo, orpo, asft])
def test_the_chosen_rises_and_the_rejected_falls(loss):
    _, by_chosen, by_rejected = loss_and_gradients(loss, pair())
    assert by_chosen < 0 < by_rejected


def test_reference_is_not_differentiated():
    for loss in WITH_REFERENCE:
        gradients = jax.grad(lambda r, loss=loss: loss(pair()._replace(ref_chosen=r[0], ref_rejected=r[1])).sum())(
            jnp.ones((2, 1)))
        assert not gradients.any()


@pytest.mark.parametrize("logp", [0.0, -1e-9, -1e-7, -0.6931, -0.6932, -50.0, -1e4])
def test_log_odds_of_certain_and_impossible_answers(logp):
    value, slope = jax.value_and_grad(log_odds)(jnp.float32(logp))
    assert np.isfinite(value)
    assert np.isfinite(slope)
    capped = min(logp, -1e-7)
    np.testing.assert_allclose(value, capped - np.log(-np.expm1(capped)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", BY_MEANS)
def test_t19_empty_answers_stay_finite(loss):
    assert np.isfinite(loss_and_gradients(loss, pair(0.0, 0.0, 0, 0))).all()


@pytest.mark.parametrize(("desirable", "expected"), [(True, (0.4875026, -0.0249844)), (False, (0.5124974, 0.0249844))])
def test_kto_golden(desirable, expected, x64):
    def value(logp):
        return kto(logp, jnp.zeros(1), jnp.array([desirable]), jnp.array(0.2)).sum()

    result, gradient = jax.value_and_grad(value)(jnp.array([0.7]))
    np.testing.assert_allclose((result, gradient[0]), expected, atol=1e-7)


def test_kto_weights_and_baseline():
    weighted = kto(jnp.array([0.7, 0.7]), jnp.zeros(2), jnp.array([True, False]), jnp.array(0.2),
                   desirable_weight=2.0, undesirable_weight=3.0)
    np.testing.assert_allclose(weighted, [2 * 0.4875026, 3 * 0.5124974], rtol=1e-6)
    np.testing.assert_allclose(kto_baseline(jnp.array([1.0, 2.0]), jnp.array([0.5, 0.5])), 1.0)
    assert kto_baseline(jnp.array([-1.0, -2.0]), jnp.zeros(2)) == 0
    assert not jax.grad(lambda x: kto_baseline(x, jnp.zeros(2)))(jnp.ones(2)).any()


def test_bradley_terry_closed_form(x64):
    chosen, rejected = jnp.array([1.5, -0.5]), jnp.array([0.2, 0.4])
    gradients = jax.grad(lambda c, r: bradley_terry(c, r).sum(), argnums=(0, 1))(chosen, rejected)
    wrong = 1 / (1 + np.exp(np.asarray(chosen - rejected)))
    np.testing.assert_allclose(gradients, [-wrong, wrong])
    np.testing.assert_allclose(bradley_terry(chosen, rejected), -np.log(1 - wrong))


def test_bad_options():
    for loss in (dpo, ipo, simpo, orpo, asft):
        with pytest.raises(ValueError, match="beta is 0; allowed: 0 < beta < inf"):
            loss(pair(), beta=0)
    for loss in WITH_REFERENCE:
        with pytest.raises(ValueError, match="ref_chosen or ref_rejected is None"):
            loss(pair()._replace(ref_chosen=None))
    with pytest.raises(ValueError, match="weight is -1"):
        asft(pair(), weight=-1)
    with pytest.raises(ValueError, match="the number of mismatched pairs is 1; allowed: at least 2"):
        kto_baseline(jnp.ones(1), jnp.ones(1))
    with pytest.raises(ValueError, match="desirable_weight is 0"):
        kto(jnp.ones(2), jnp.ones(2), jnp.ones(2, bool), jnp.zeros(()), desirable_weight=0)
    with pytest.raises(ValueError, match="the shape of rejected"):
        bradley_terry(jnp.ones(2), jnp.ones(1))
