"""The algorithms page: every entry is complete, its options can be changed and mistakes are named."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning import advantages, losses
from rl_reasoning.advantages import AdvantageInputs
from rl_reasoning.algorithms import ALGORITHMS, options, resolve, table
from rl_reasoning.losses import AGGREGATIONS


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_entry_names_public_functions_and_a_known_averaging(name):
    entry = ALGORITHMS[name]
    assert getattr(advantages, entry.advantage.func.__name__) is entry.advantage.func
    assert getattr(losses, entry.surrogate.func.__name__) is entry.surrogate.func
    assert entry.aggregation in AGGREGATIONS
    assert "arXiv" in entry.paper
    shared = set(inspect.signature(entry.advantage).parameters) & set(inspect.signature(entry.surrogate).parameters)
    assert shared == {"inputs"}  # or an override would change the wrong one


def test_an_option_changes_the_function_that_reads_it():
    inputs = AdvantageInputs(rewards=np.array([1.0, 0.0]), groups=np.zeros(2, int), lengths=np.ones(2, int),
                             mask=np.ones((2, 1), bool))
    assert resolve("w_reinforce", {}).advantage(inputs).values.tolist() == pytest.approx([0.1, -1])
    assert resolve("w_reinforce", {"positive_weight": 1}).advantage(inputs).values.tolist() == [1, -1]
    assert ALGORITHMS["w_reinforce"].advantage(inputs).values.tolist() == pytest.approx([0.1, -1])
    changed = resolve("ppo", {"clip_high": 0.28, "aggregation": "sequence_mean_token_mean", "value_clip": 0.2})
    assert options(changed) == options(ALGORITHMS["ppo"]) | {
        "clip_high": 0.28, "aggregation": "sequence_mean_token_mean", "value_clip": 0.2}
    assert changed.objective(9).value_clip == 0.2


@pytest.mark.parametrize(("name", "overrides", "named"), [
    ("nrs", {}, "algorithm='nrs' is not known; did you mean nsr"),
    ("w_reinforce", {"positive_wieght": 0.5}, "did you mean positive_weight"),
    ("nsr", {"positive_weight": 0.5}, "nsr has no such option"),
    ("grpo", {"clip_low": "a"}, "objective.clip_low='a' of grpo must be a float"),
    ("grpo", {"paper": "x"}, "grpo has no such option"),
])
def test_mistakes_are_named(name, overrides, named):
    with pytest.raises(ValueError, match=named):
        resolve(name, overrides)


def test_the_table_has_a_line_for_every_algorithm():
    lines = table().splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(ALGORITHMS)
    assert "signed(positive_weight=0.1)" in next(line for line in lines if line.startswith("w_reinforce"))


def test_rloo_is_its_papers_gradient_whatever_the_lengths():
    """The mean over answers of -A times the gradient of the answer's log-probability, a sum over its tokens."""
    entry, lengths = ALGORITHMS["rloo"], np.array([1, 4, 2, 3])
    mask, groups = np.arange(4) < lengths[:, None], np.zeros(4, int)
    rewards = np.array([1.0, 0.0, 0.25, 0.5])
    advantage = entry.advantage(AdvantageInputs(rewards, groups, lengths, mask)).values

    def loss(logp):
        inputs = losses.SurrogateInputs(logp=logp, old_logp=jnp.zeros((4, 4)), mask=mask, groups=groups,
                                        rewards=rewards, advantages=jnp.broadcast_to(advantage[:, None], (4, 4)))
        return losses.reduce(entry.surrogate(inputs), entry.aggregation, max_length=9)

    gradient = jax.grad(loss)(jnp.zeros((4, 4)))
    leave_one_out = rewards - (rewards.sum() - rewards) / 3
    np.testing.assert_allclose(gradient, np.where(mask, -leave_one_out[:, None] / 4, 0), rtol=1e-6)
