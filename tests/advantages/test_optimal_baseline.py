import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning import advantages
from rl_reasoning.advantages import AdvantageInputs
from tests.compiling import COMPILE_FAST

LENGTHS = np.array([3, 2, 4])
MASK = np.arange(4)[None, :] < LENGTHS[:, None]
NAN = float("nan")
otb = jax.jit(advantages.otb, static_argnames="zero_tail", compiler_options=COMPILE_FAST)
# log-probabilities of the old policy in the worked example of the losses
OLD = np.array([[-0.6, -0.9, -0.8, NAN], [-2.25, -0.1, NAN, NAN], [-0.05, -1.3, -1.5, -0.2]])


def example(**fields):
    p = np.exp(OLD)
    inputs = AdvantageInputs(rewards=np.array([1, 0, 0.5]), groups=np.zeros(3, np.int32), lengths=LENGTHS, mask=MASK,
                             old_logp=OLD, sum_pi_squared=p**2 + (1 - p) ** 2 / 2)
    return inputs._replace(**fields)


@pytest.mark.parametrize(("zero_tail", "last"), [(False, 0.0), (True, 0.5)])
def test_golden(zero_tail, last):
    expected = [[0.7965136, 0.5668629, 0.2846207, 0], [-0.2034864, -0.4331371, 0, 0],
                [0.2965136, 0.0668629, -0.2153793, last]]
    np.testing.assert_allclose(otb(example(), zero_tail=zero_tail).values, expected, atol=1e-6)


def test_the_weighted_advantages_of_a_step_sum_to_zero():
    inputs = example()
    energy = np.cumsum(np.where(MASK, 1 - 2 * np.exp(OLD) + inputs.sum_pi_squared, 0), axis=1) * MASK
    np.testing.assert_allclose((energy * np.asarray(otb(inputs).values)).sum(axis=0), 0, atol=1e-6)


def test_equal_energies_give_the_mean_of_those_still_going_on():
    for pi, square in ((0.5, 0.5), (1.0, 1.0)):
        values = otb(example(old_logp=np.log(np.full((3, 4), pi)), sum_pi_squared=np.full((3, 4), square))).values
        np.testing.assert_allclose(values[:, 0], [0.5, -0.5, 0], atol=1e-6)
        np.testing.assert_allclose(values[:, 2], [0.25, 0, -0.25], atol=1e-6)


def test_holes_do_not_shift_the_steps():
    """Two masked slots inside the third answer: its tokens get what they get without them."""
    columns = {0: 0, 1: 3, 2: 4, 3: 5}
    wide = {name: np.full((3, 6), NAN) for name in ("old_logp", "sum_pi_squared")}
    mask = np.zeros((3, 6), bool)
    inputs = example()
    for row in range(3):
        for column in np.flatnonzero(MASK[row]):
            place = columns[column] if row == 2 else column
            mask[row, place] = True
            for name, array in wide.items():
                array[row, place] = getattr(inputs, name)[row, column]
    values, plain = np.asarray(otb(inputs._replace(mask=mask, **wide)).values), np.asarray(otb(inputs).values)
    np.testing.assert_allclose(values[mask], plain[MASK], atol=1e-6)


def test_energy_is_the_squared_norm_of_the_score():
    logits = jnp.array([0.3, -1.0, 0.7])
    pi = jax.nn.softmax(logits)
    for token in range(3):
        score = jax.grad(lambda z, token=token: jax.nn.log_softmax(z)[token])(logits)
        np.testing.assert_allclose(score @ score, 1 - 2 * pi[token] + (pi**2).sum(), rtol=1e-5)


def test_token_rewards_are_part_of_the_return():
    extra = np.where(MASK, np.array([[0.0], [0.25], [0.0]]), 0)
    values = np.asarray(otb(example(token_rewards=extra)).values)
    assert np.abs(values[1] - np.asarray(otb(example()).values)[1]).max() > 0.1


def test_bad_options():
    with pytest.raises(ValueError, match="sum_pi_squared is None"):
        otb(example(sum_pi_squared=None))
