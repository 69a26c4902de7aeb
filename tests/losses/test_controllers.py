import pytest

from rl_reasoning.losses import adaptive_entropy_coefficient, adaptive_kl_coefficient


def test_entropy_trajectory():
    """0.005, 0.010, 0.005 for windows of entropy 0.1, 0.1, 0.5, the bonus applying in the second and third."""
    coefficient, applies, seen = 0.0, False, []
    for entropy in (0.1, 0.1, 0.5):
        applied = applies
        coefficient, applies = adaptive_entropy_coefficient(coefficient, entropy)
        seen.append((round(coefficient, 6), applied))
    assert seen == [(0.005, False), (0.010, True), (0.005, True)]
    assert applies is False


def test_entropy_coefficient_stays_in_range():
    assert adaptive_entropy_coefficient(0.0, 9.0) == (0.0, False)
    assert adaptive_entropy_coefficient(1.0, 0.0) == (1.0, True)


@pytest.mark.parametrize(("kl", "factor"), [(6.0, 1.0), (60.0, 1.002), (0.0, 0.998), (6.6, 1.001)])
def test_kl_coefficient(kl, factor):
    assert adaptive_kl_coefficient(0.2, kl, target=6.0, steps=100, horizon=10_000) == pytest.approx(0.2 * factor)


def test_bad_options():
    with pytest.raises(ValueError, match="target is 0; allowed: target > 0"):
        adaptive_kl_coefficient(0.1, 1.0, target=0, steps=1, horizon=10)
    with pytest.raises(ValueError, match="horizon is 0"):
        adaptive_kl_coefficient(0.1, 1.0, target=1, steps=1, horizon=0)
    with pytest.raises(ValueError, match="step is -1"):
        adaptive_entropy_coefficient(0.1, 1.0, step=-1)
    with pytest.raises(ValueError, match=r"\(low, high\) is \(2, 1\)"):
        adaptive_entropy_coefficient(0.1, 1.0, low=2, high=1)
