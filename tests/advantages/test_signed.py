import numpy as np
import pytest

from rl_reasoning.advantages import check_rewards, negative_only, positive_only, signed

NAN = float("nan")


@pytest.mark.parametrize("wrong", [0.0, -1.0])
def test_signs_and_weights(wrong, batch):
    inputs = batch([1, wrong, 1, wrong, NAN, 1], lengths=[3, 3, 2, 1, 3, 0])
    psr, nsr = positive_only(inputs), negative_only(inputs)
    np.testing.assert_array_equal(psr.values, [1, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(psr.weights, [1, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(nsr.values, [0, -1, 0, -1, 0, 0])
    np.testing.assert_array_equal(nsr.weights, [0, 1, 0, 1, 0, 0])
    np.testing.assert_array_equal(positive_only(inputs, denominator="all").weights, [1, 1, 1, 1, 0, 0])
    weighted = signed(inputs, positive_weight=0.1)
    np.testing.assert_allclose(weighted.values, [0.1, -1, 0.1, -1, 0, 0])
    np.testing.assert_array_equal(weighted.weights, [1, 1, 1, 1, 0, 0])


def test_weight_one_is_reinforce_with_rewards_of_plus_and_minus_one(batch):
    rewards = [1, -1, -1, 1]
    np.testing.assert_array_equal(signed(batch(rewards), positive_weight=1.0).values, rewards)


def test_weighted_is_the_weighted_sum_of_the_parts(batch):
    inputs = batch([1, 0, 0, 1, 0])
    parts = 0.3 * positive_only(inputs, denominator="all").values + negative_only(inputs, denominator="all").values
    np.testing.assert_allclose(signed(inputs, positive_weight=0.3).values, parts)


def test_nothing_of_the_class_is_zero(batch):
    for result in (positive_only(batch([0, 0])), negative_only(batch([1, 1]))):
        assert not np.any(result.values)
        assert not np.any(result.weights)


def test_bad_options(batch):
    with pytest.raises(ValueError, match="denominator is 'some'; allowed: kept, all"):
        positive_only(batch([1]), denominator="some")
    with pytest.raises(ValueError, match="positive_weight is -1; allowed: 0 <= positive_weight"):
        signed(batch([1]), positive_weight=-1)


@pytest.mark.parametrize("rewards", [[0, 1], [-1, 1], [1], [], [[0, NAN], [1, float("inf")]]])
def test_binary_rewards_pass(rewards):
    check_rewards(np.array(rewards))


@pytest.mark.parametrize(("rewards", "kind", "match"), [
    ([0, 0.5, 1], "binary", "a reward is 0.5; allowed: 0 and 1, or -1 and 1.*Threshold"),
    ([-1, 0, 1], "binary", "a reward is 0.0"), ([0, 2], "unit", "a reward is 2.0; allowed: 0 <= reward <= 1"),
    ([0], "odd", "kind is 'odd'; allowed: binary, unit")])
def test_other_rewards_are_refused(rewards, kind, match):
    with pytest.raises(ValueError, match=match):
        check_rewards(np.array(rewards), kind=kind)
