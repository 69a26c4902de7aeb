"""Expected gradients, noise and flow of PSR and NSR on policies whose answers can be counted."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.analysis.signs import (
    coefficients,
    expected_gradient,
    mass_flow,
    noise,
    paired_noise,
    sampled_noise,
    second_moments,
    step,
)

V, LENGTH = 3, 2
ANSWERS = jnp.asarray(list(itertools.product(range(V), repeat=LENGTH)))
REWARDS = jnp.asarray([0, 0, 1, 0, 0, 0, 0, 1, 0], jnp.float32)


def logp(parameters):
    """[9]: answers of two tokens of an autoregressive policy; the second depends on the first."""
    first = jax.nn.log_softmax(parameters["first"])
    second = jax.nn.log_softmax(jnp.tanh(parameters["embed"]) @ parameters["head"], axis=-1)
    return first[ANSWERS[:, 0]] + second[ANSWERS[:, 0], ANSWERS[:, 1]]


@pytest.fixture(scope="module")
def parameters():
    keys = jax.random.split(jax.random.key(0), 3)
    return {"first": jax.random.normal(keys[0], (V,)), "embed": jax.random.normal(keys[1], (V, 4)),
            "head": jax.random.normal(keys[2], (4, V))}


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_on_policy_psr_and_nsr_have_one_expected_gradient(parameters):
    found = {name: flat(expected_gradient(logp, parameters, weights))
             for name, weights in coefficients(REWARDS).items()}
    np.testing.assert_allclose(found["psr"], found["nsr"], atol=1e-6)
    np.testing.assert_allclose(found["reinforce"], 2 * found["psr"], atol=1e-6)
    # It is the gradient of the chance to be right.
    expected = flat(jax.grad(lambda current: (jnp.exp(logp(current)) * REWARDS).sum())(parameters))
    np.testing.assert_allclose(found["psr"], expected, atol=1e-6)
    assert np.abs(expected).max() > 1e-3


def test_off_policy_they_differ(parameters):
    """Drawn from another policy the identity is gone, since the other's scores do not average to zero."""
    other = jnp.exp(logp(jax.tree.map(lambda leaf: 0.3 * leaf, parameters)))
    psr, nsr = (flat(jax.grad(lambda current, w=weights: (other * w * logp(current)).sum())(parameters))
                for weights in (REWARDS, REWARDS - 1))
    assert np.abs(psr - nsr).max() > 0.01


def test_noise_in_closed_form_and_from_samples(parameters):
    """A two-armed softmax: score of arm 1 is (-(1 - p), 1 - p), of arm 0 (p, -p)."""
    p = 0.2
    arms = noise(jax.nn.log_softmax, jnp.log(jnp.asarray([1 - p, p])), jnp.asarray([0.0, 1.0]))
    assert float(arms.signal) == pytest.approx(2 * (p * (1 - p)) ** 2, rel=1e-5)
    assert float(arms.variance) == pytest.approx(2 * p * (1 - p) ** 2 - 2 * (p * (1 - p)) ** 2, rel=1e-5)
    mass = np.exp(np.asarray(logp(parameters), np.float64))
    drawn = np.random.default_rng(0).choice(len(mass), 40_000, p=mass / mass.sum())
    scores = np.concatenate([np.asarray(leaf).reshape(len(mass), -1)
                             for leaf in jax.tree.leaves(jax.jacrev(logp)(parameters))], axis=1)
    for name, weights in coefficients(REWARDS).items():
        exact = noise(logp, parameters, weights)
        found = sampled_noise(scores[drawn], np.asarray(weights)[drawn])
        assert found.variance == pytest.approx(float(exact.variance), rel=0.05)
        assert found.signal == pytest.approx(float(exact.signal), abs=0.02 * float(exact.variance))
        moment = second_moments(np.square(scores[drawn]).sum(axis=1), np.asarray(REWARDS)[drawn])[name]
        assert moment == pytest.approx(float(exact.variance + exact.signal), rel=0.05)


def test_the_rarer_kind_of_answer_gives_the_less_noisy_estimator():
    """One of ten equal answers is right: all scores have one norm, so NSR has nine times PSR's second moment."""
    uniform, rewards = jnp.zeros(10), jnp.zeros(10).at[0].set(1.0)
    found = {name: noise(jax.nn.log_softmax, uniform, weights) for name, weights in coefficients(rewards).items()}
    assert float(found["psr"].signal) == pytest.approx(float(found["nsr"].signal), rel=1e-4)
    moments = {name: float(each.variance + each.signal) for name, each in found.items()}
    assert moments["nsr"] == pytest.approx(9 * moments["psr"], rel=1e-4)
    assert float(found["nsr"].answers_for(1.0)) > 9 * float(found["psr"].answers_for(1.0))
    with pytest.raises(ValueError, match="at least 2"):
        sampled_noise(np.ones((1, 3)), np.ones(1))


def test_flow_of_one_small_step_is_first_order_and_adds_up_to_zero():
    """A softmax over answers: raising answer y by c moves p_v by rate * c * p_v ((v == y) - p_y - p_v + sum p^2)."""
    logits, rate = jnp.asarray([1.0, 0.0, -0.5, 0.3]), 1e-3
    rewards, drawn = jnp.asarray([0.0, 1.0, 0.0, 1.0]), jnp.asarray([0])
    weights = coefficients(rewards)["nsr"]
    after = step(jax.nn.log_softmax, logits, drawn, weights, rate)
    before = jax.nn.log_softmax(logits)
    flow = mass_flow(before, jax.nn.log_softmax(after), jnp.asarray([True, False, False, False]), rewards)
    p = np.exp(np.asarray(before, np.float64))
    change = -rate * p * ((np.arange(4) == 0) - p[0] - p + np.square(p).sum())
    np.testing.assert_allclose([flow.drawn_wrong, flow.other_right, flow.other_wrong],
                               [change[0], change[[1, 3]].sum(), change[2]], rtol=0.01)
    assert float(flow.drawn_right) == 0.0
    assert abs(float(sum(flow))) < 1e-7


def test_dividing_by_kept_rows_takes_the_larger_step():
    logits, rewards = jnp.zeros(4), jnp.asarray([1.0, 0.0, 0.0, 0.0])
    drawn, weights = jnp.asarray([0, 1, 2, 3]), coefficients(rewards)["psr"]
    kept, every = (step(jax.nn.log_softmax, logits, drawn, weights, 0.1, kept_rows=flag) for flag in (True, False))
    np.testing.assert_allclose(kept, 4 * every, rtol=1e-5)


def test_paired_noise_of_known_gradients():
    """One mean for both, noise that both share and noise of their own, drowning it: E |x|^2 = signal + variance."""
    rng, mean = np.random.default_rng(0), np.random.default_rng(1).normal(size=400) / 20  # of squared norm about 1
    shared = rng.normal(0, 0.1, (400, 400))
    first = mean + shared + rng.normal(0, 0.1, (400, 400))
    second = mean - shared + rng.normal(0, 0.3, (400, 400))
    found = paired_noise(first, second)
    assert found.signal == pytest.approx(np.square(mean).sum(), rel=0.05)
    np.testing.assert_allclose(found.variances, [400 * 0.02, 400 * 0.1], rtol=0.02)
    np.testing.assert_allclose(found.noise, found.variances / found.signal)
    assert found.cosine == pytest.approx(1.0, abs=0.05)
    # Eight rollouts alone: the plain cosine of both means is far from what it should be, the other's mean is not.
    few = [(first[at:at + 8], second[at:at + 8]) for at in range(0, 400, 8)]
    plain = [a.mean(0) @ b.mean(0) / np.linalg.norm(a.mean(0)) / np.linalg.norm(b.mean(0)) for a, b in few]
    assert np.mean(plain) < 0.4
    assert np.nanmedian([paired_noise(a, b).cosine for a, b in few]) == pytest.approx(1.0, abs=0.25)


def test_paired_noise_at_its_ends():
    exact = paired_noise(np.tile([[3.0, 4.0]], (3, 1)), np.tile([[6.0, 8.0]], (3, 1)))
    assert (exact.signal, exact.cosine) == (pytest.approx(7.5 ** 2), pytest.approx(1.0))
    np.testing.assert_allclose(exact.variances, 0, atol=1e-9)
    other = paired_noise(np.tile([[1.0, 0.0]], (2, 1)), np.tile([[0.0, 1.0]], (2, 1)))
    assert other.cosine == pytest.approx(0.0)
    nothing = paired_noise(np.asarray([[1.0], [-1.0]]), np.asarray([[1.0], [-1.0]]))
    assert np.isnan([nothing.cosine, *nothing.noise]).all()
    with pytest.raises(ValueError, match="at least 2"):
        paired_noise(np.ones((1, 2)), np.ones((1, 2)))
