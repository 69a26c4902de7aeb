"""Expected gradients of advantage and loss together, by enumerating a bandit of three arms (T24)."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning import advantages, losses
from rl_reasoning.advantages import AdvantageInputs
from tests.compiling import COMPILE_FAST

LOGITS = np.array([0.4, -0.9, 0.1])
GRADED = np.array([0.2, 1.0, -0.5])
BINARY = np.array([0.0, 1.0, 0.0])


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def exact(rewards, draws=1, best=False):
    """The gradient of minus the expected reward, or of minus the expected best reward of several draws."""
    def objective(z):
        p, total = jax.nn.softmax(z), 0.0
        for arms in itertools.product(range(3), repeat=draws):
            reward = max(rewards[list(arms)]) if best else rewards[arms[0]]
            total += jnp.prod(p[jnp.array(arms)]) * reward
        return -total

    return np.asarray(jax.jit(jax.grad(objective), compiler_options=COMPILE_FAST)(jnp.asarray(LOGITS)))


def expected(advantage, surrogate, rewards, draws=1):
    """The mean over all groups of answers of one token, each with its probability, of the on-policy gradient."""
    groups = np.array(list(itertools.product(range(3), repeat=draws)))
    arms, ids = groups.reshape(-1), np.repeat(np.arange(len(groups)), draws)
    ones = np.ones((len(arms), 1), bool)
    scored = AdvantageInputs(rewards=rewards[arms], groups=ids, lengths=np.ones(len(arms), int), mask=ones)
    result = jax.jit(advantage, compiler_options=COMPILE_FAST)(jax.tree.map(jnp.asarray, scored))
    old_logp = jax.nn.log_softmax(LOGITS)[arms][:, None]
    chances = jnp.prod(jax.nn.softmax(LOGITS)[groups], axis=1)[ids][:, None]

    def loss(z, old_logp, result):
        terms = surrogate(losses.SurrogateInputs(
            logp=jax.nn.log_softmax(z)[arms][:, None], old_logp=old_logp, advantages=result.values[:, None],
            mask=ones & (result.weights[:, None] > 0), groups=jnp.asarray(ids), rewards=jnp.asarray(rewards[arms])))
        return (terms.values * terms.weights * chances).sum() / draws

    gradient = jax.jit(jax.grad(loss), compiler_options=COMPILE_FAST)
    return np.asarray(gradient(jnp.asarray(LOGITS), old_logp, result))


@pytest.mark.parametrize("surrogate", [losses.reinforce, losses.clipped, losses.gppo, losses.cispo, losses.gspo,
                                       losses.luspo, losses.gmpo, losses.sapo, losses.vespo])
def test_reward_as_advantage_is_the_policy_gradient(surrogate):
    np.testing.assert_allclose(expected(advantages.outcome, surrogate, GRADED), exact(GRADED), atol=1e-12)


def test_w_reinforce_of_weight_one_is_the_policy_gradient_of_signs():
    actual = expected(functools.partial(advantages.signed, positive_weight=1.0), losses.clipped, BINARY)
    np.testing.assert_allclose(actual, exact(2 * BINARY - 1), atol=1e-7)


@pytest.mark.parametrize("draws", [2, 3])
def test_rloo_is_unbiased_and_dr_grpo_a_known_share_of_it(draws):
    np.testing.assert_allclose(expected(advantages.rloo, losses.clipped, GRADED, draws), exact(GRADED), atol=1e-12)
    actual = expected(advantages.dr_grpo, losses.clipped, GRADED, draws)
    np.testing.assert_allclose(actual, exact(GRADED) * (draws - 1) / draws, atol=1e-12)


@pytest.mark.parametrize("draws", [2, 3])
def test_passk_is_unbiased_for_the_best_of_several(draws):
    actual = expected(advantages.grpo_passk, losses.clipped, GRADED, draws) * draws
    np.testing.assert_allclose(actual, exact(GRADED, draws, best=True), atol=1e-12)
    biased = expected(functools.partial(advantages.grpo_passk, normalized=True), losses.clipped, GRADED, draws) * draws
    assert np.abs(biased - exact(GRADED, draws, best=True)).max() > 1e-2


def test_pacs_at_the_old_policy_is_beta_times_rloo():
    surrogate = functools.partial(losses.pacs, beta=0.5, balanced=False)
    actual = expected(advantages.outcome, surrogate, BINARY, 2)
    np.testing.assert_allclose(actual, 0.5 * exact(BINARY), atol=1e-12)


def step(advantage, arm, logits=LOGITS):
    """The gradient by the logits of one sampled answer whose advantage is given."""
    def loss(z):
        one = np.ones((1, 1))
        inputs = losses.SurrogateInputs(jax.nn.log_softmax(z)[arm].reshape(1, 1), jax.nn.log_softmax(logits)[arm] * one,
                                        advantage * one, one > 0, np.zeros(1, int), np.zeros(1))
        return losses.reduce(losses.clipped(inputs), "token_mean", max_length=1)

    return np.asarray(jax.grad(loss)(jnp.asarray(logits)))


def test_negative_step_golden():
    """From (1/6, 1/3, 1/2), a wrong answer 2 gives (-1/6, -1/3, 1/2)."""
    np.testing.assert_allclose(step(-1.0, 2, np.log([1.0, 2.0, 3.0])), [-1 / 6, -1 / 3, 1 / 2], atol=1e-12)


@pytest.mark.parametrize("arm", range(3))
def test_signs_and_redistribution(arm):
    """The gradient is -A (onehot - pi): a wrong answer's mass goes to the others in proportion to their prior."""
    pi = np.asarray(jax.nn.softmax(LOGITS))
    others = np.arange(3) != arm
    positive, negative = step(1.0, arm), step(-1.0, arm)
    np.testing.assert_allclose(positive, pi - ~others, atol=1e-12)
    np.testing.assert_allclose(negative, ~others - pi, atol=1e-12)
    assert positive[arm] < 0 < negative[arm]
    np.testing.assert_allclose(negative[others] / pi[others], -1, atol=1e-12)


def test_a_certain_answer_is_left_alone():
    for advantage in (1.0, -1.0):
        np.testing.assert_allclose(step(advantage, 0, np.array([30.0, 0.0, 0.0])), 0, atol=1e-12)


def test_odds_between_answers_that_were_not_sampled_drift_to_the_likelier():
    rate, pi = 0.01, np.asarray(jax.nn.softmax(LOGITS))
    after = LOGITS - rate * step(-1.0, 2)
    drift = (after[0] - after[1]) - (LOGITS[0] - LOGITS[1])
    np.testing.assert_allclose(drift, rate * (pi[0] - pi[1]), atol=1e-12)


def entropy(z):
    p = np.asarray(jax.nn.softmax(z))
    return -(p * np.log(p)).sum()


def test_negative_step_on_a_wrong_mode_raises_entropy_and_positive_step_on_the_mode_lowers_it():
    peaked = np.array([2.0, 0.0, -0.5])
    negative, positive = (peaked - 0.1 * step(advantage, 0, peaked) for advantage in (-1.0, 1.0))
    assert entropy(negative) > entropy(peaked) > entropy(positive)


def test_positive_only_learns_nothing_from_wrong_answers_and_negative_only_from_right_ones():
    for advantage, rewards in ((advantages.positive_only, np.zeros(3)), (advantages.negative_only, np.ones(3))):
        assert not expected(advantage, losses.clipped, rewards).any()


@pytest.mark.parametrize("weight", [0.0, 0.1, 1.0])
def test_w_reinforce_is_linear_in_its_parts(weight):
    every = [expected(functools.partial(advantage, denominator="all"), losses.clipped, BINARY)
             for advantage in (advantages.positive_only, advantages.negative_only)]
    weighted = expected(functools.partial(advantages.signed, positive_weight=weight), losses.clipped, BINARY)
    np.testing.assert_allclose(weighted, weight * every[0] + every[1], atol=1e-7)


@pytest.mark.parametrize("denominator", ["kept", "all"])
def test_kept_denominator_does_not_shrink_with_a_rare_class(denominator):
    """One right answer among eight: averaged over what is kept, its gradient is eight times as large."""
    rewards, ones = np.eye(8)[3], np.ones((8, 1), bool)
    result = advantages.positive_only(AdvantageInputs(rewards, np.zeros(8, int), np.ones(8, int), ones),
                                      denominator=denominator)

    def loss(logp):
        mask = ones & (result.weights[:, None] > 0)
        inputs = losses.SurrogateInputs(logp, jnp.zeros((8, 1)), result.values[:, None], mask, np.arange(8), rewards)
        return losses.reduce(losses.clipped(inputs), "token_mean", max_length=1)

    gradient = jax.grad(loss)(jnp.zeros((8, 1)))
    np.testing.assert_allclose(gradient[:, 0], -rewards / (1 if denominator == "kept" else 8))
