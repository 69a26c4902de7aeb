import numpy as np
import pytest

from rl_reasoning.losses import SurrogateInputs, pacs

SCORES = np.array([0.3, -0.2, 0.1, 0.05])
REWARDS = np.array([1.0, 0.0, 0.0, 0.0])
MODE = "sequence_mean_token_mean"


def group(scores=SCORES, rewards=REWARDS, groups=None):
    """Rows of two tokens that share a score, behind a masked slot."""
    halves = np.asarray(scores)[:, None] * np.array([np.nan, 0.25, 0.75])
    mask = np.broadcast_to(np.array([False, True, True]), halves.shape)
    logp = np.full(halves.shape, -1.0)
    return SurrogateInputs(logp=logp, old_logp=logp - halves, advantages=np.zeros_like(logp), mask=mask,
                           groups=np.zeros(len(halves), np.int32) if groups is None else groups, rewards=rewards)


def by_row(gradient):
    gradient = np.asarray(gradient)
    assert not gradient[:, 0].any()
    np.testing.assert_allclose(gradient[:, 1], gradient[:, 2])
    return gradient[:, 1]


@pytest.mark.parametrize(("balanced", "loss", "by_score"), [
    (False, 0.6209967, [-0.2238482, 0.0544421, 0.0874804, 0.0819257]),
    (True, 0.5964300, [-0.2897282, 0.0831267, 0.1051523, 0.1014492])])
def test_golden(balanced, loss, by_score, x64, loss_and_gradient):
    value, gradient = loss_and_gradient(pacs, group(), MODE, balanced=balanced)
    np.testing.assert_allclose(value, loss, atol=1e-7)
    np.testing.assert_allclose(by_row(gradient), by_score, atol=1e-7)
    np.testing.assert_allclose(by_row(gradient).sum(), 0, atol=1e-12)


@pytest.mark.parametrize("rights", [0, 1, 3, 4])
def test_at_the_old_policy(rights, x64, loss_and_gradient):
    """Loss ln 2; unweighted, the step is beta times that of RLOO with token sums; balanced, the classes share it."""
    n, beta = 4, 0.5
    rewards = (np.arange(n) < rights).astype(float)
    inputs = group(np.zeros(n), rewards)
    value, gradient = loss_and_gradient(pacs, inputs, MODE, beta=beta, balanced=False)
    np.testing.assert_allclose(value, np.log(2))
    rloo = (rewards - rewards.mean()) * n / (n - 1)
    np.testing.assert_allclose(by_row(gradient), -beta * rloo / n, atol=1e-12)
    value, gradient = loss_and_gradient(pacs, inputs, MODE, beta=beta)
    np.testing.assert_allclose(value, np.log(2))
    share = beta * n**2 / (4 * (n - 1) * n)
    mixed = 0 < rights < n
    expected = np.where(rewards == 1, -share / max(rights, 1), share / max(n - rights, 1)) * mixed
    np.testing.assert_allclose(by_row(gradient), expected, atol=1e-12)


def test_a_constant_added_to_the_scores_of_a_group_changes_nothing(x64, loss_and_gradient):
    for actual, expected in zip(loss_and_gradient(pacs, group(SCORES + 0.7), MODE),
                                loss_and_gradient(pacs, group(), MODE), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-12)


def test_equal_rewards_pull_the_scores_together(x64, loss_and_gradient):
    for reward in (0.0, 1.0):
        value, gradient = loss_and_gradient(pacs, group(rewards=np.full(4, reward)), MODE)
        assert value > np.log(2)
        assert by_row(gradient) @ (SCORES - SCORES.mean()) > 0


def test_rows_without_a_reward_or_a_partner_are_left_out(x64, loss_and_gradient):
    """T18: the others get what they would get alone."""
    inputs = group(np.append(SCORES, [0.4, -0.6]), np.append(REWARDS, [np.nan, 1.0]), np.array([5, 5, 5, 5, 5, 8]))
    value, gradient = loss_and_gradient(pacs, inputs, MODE)
    alone_value, alone_gradient = loss_and_gradient(pacs, group(), MODE)
    np.testing.assert_allclose(value, alone_value)
    np.testing.assert_allclose(gradient[:4], alone_gradient, atol=1e-12)
    assert not np.any(gradient[4:])
    _, naive = loss_and_gradient(pacs, inputs, MODE, coupling="naive")
    assert naive[5, 1] != 0


@pytest.mark.parametrize("coupling", ["naive", "grpo"])
def test_couplings(coupling, x64, loss_and_gradient):
    psi = SCORES if coupling == "naive" else (SCORES - SCORES.mean()) / (SCORES.std(ddof=1) + 1e-6)
    value, _ = loss_and_gradient(pacs, group(), MODE, coupling=coupling, balanced=False)
    np.testing.assert_allclose(value, (np.log1p(np.exp(psi)) - REWARDS * psi).mean())


def test_grpo_coupling_is_finite_where_all_scores_are_equal(loss_and_gradient):
    value, gradient = loss_and_gradient(pacs, group(np.zeros(4)), MODE, coupling="grpo")
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_actor_term_adds_the_loss_as_a_score_function_weight(x64, loss_and_gradient):
    value, gradient = loss_and_gradient(pacs, group(), MODE, balanced=False)
    both_value, both = loss_and_gradient(pacs, group(), MODE, balanced=False, actor_term=True)
    np.testing.assert_allclose(both_value, value)
    psi = (SCORES - SCORES.mean()) * 4 / 3
    row_loss = np.log1p(np.exp(psi)) - REWARDS * psi
    np.testing.assert_allclose(by_row(both) - by_row(gradient), row_loss / 4, atol=1e-12)


def test_bad_options():
    with pytest.raises(ValueError, match="beta is 0; allowed: 0 < beta < inf"):
        pacs(group(), beta=0)
    with pytest.raises(ValueError, match="coupling is 'ppo'; allowed: rloo, grpo, naive"):
        pacs(group(), coupling="ppo")
