"""The algorithms page: every entry is complete, its options can be changed and mistakes are named."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning import advantages, losses
from rl_reasoning.advantages import AdvantageInputs
from rl_reasoning.algorithms import ALGORITHMS
from rl_reasoning.config import RL, Code, Experiment, Task
from rl_reasoning.losses import AGGREGATIONS
from rl_reasoning.losses.parts import Kl
from rl_reasoning.options import RECORDS, check, options, resolve, table

NAMED = {  # what a run can name
    "psr", "nsr", "w_reinforce", "reinforce", "rloo", "reinforce_plus_plus", "remax", "ppo", "grpo", "dr_grpo", "dapo",
    "gspo", "cispo", "gppo", "ce_gppo", "pacs", "raft", "raft_plus_plus", "grpo_passk", "opo", "gpg",
    "reinforce_plus_plus_baseline", "gvm_raft",
    "gvm_raft_plus_plus", "gvm_grpo", "otb", "gdpo", "sapo", "clip_cov", "kl_cov", "gmpo", "luspo", "vespo", "bnpo"}


def test_every_method_of_the_field_is_there():
    assert set(ALGORITHMS) >= NAMED


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_entry_names_public_functions_and_a_known_averaging(name):
    entry = ALGORITHMS[name]
    assert getattr(advantages, entry.advantage.func.__name__) is entry.advantage.func
    assert getattr(losses, entry.surrogate.func.__name__) is entry.surrogate.func
    assert entry.aggregation in AGGREGATIONS
    assert "arXiv" in entry.paper
    resolve(name, {})


@pytest.mark.parametrize("name", ALGORITHMS)
def test_no_two_options_of_an_entry_share_a_name(name):
    """Or an override would change the wrong one."""
    entry = ALGORITHMS[name]
    keywords = [parameter for function in (entry.advantage, entry.surrogate)
                for parameter in inspect.signature(function).parameters if parameter != "inputs"]
    records = [option for option in options(entry) if option.split("_")[0] in RECORDS and option not in keywords]
    assert len(options(entry)) == len(keywords) + len(records) + 3  # aggregation, entropy, supervised


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_entry_says_what_its_advantage_needs(name):
    """With those fields it works, and without any one of them it says so."""
    entry = ALGORITHMS[name]
    fields = {"values": np.zeros((2, 1)), "greedy_rewards": np.zeros(2), "reward_components": np.zeros((2, 2)),
              "old_logp": np.zeros((2, 1)), "sum_pi_squared": np.ones((2, 1))}
    given = {need: fields[need] for need in entry.needs}

    def estimate(**extra):
        return entry.advantage(AdvantageInputs(rewards=np.array([1.0, 0.0]), groups=np.zeros(2, int),
                                               lengths=np.ones(2, int), mask=np.ones((2, 1), bool), **extra))

    assert np.isfinite(estimate(**given).values).all()
    for need in entry.needs:
        with pytest.raises(ValueError, match=f"{need} is None"):
            estimate(**{name: value for name, value in given.items() if name != need})


def test_an_option_changes_the_function_that_reads_it():
    inputs = AdvantageInputs(rewards=np.array([1.0, 0.0]), groups=np.zeros(2, int), lengths=np.ones(2, int),
                             mask=np.ones((2, 1), bool))
    assert resolve("w_reinforce", {}).advantage(inputs).values.tolist() == pytest.approx([0.1, -1])
    assert resolve("w_reinforce", {"positive_weight": 1}).advantage(inputs).values.tolist() == [1, -1]
    assert ALGORITHMS["w_reinforce"].advantage(inputs).values.tolist() == pytest.approx([0.1, -1])
    overrides = {"clip_high": 0.28, "aggregation": "sequence_mean_token_mean", "critic_clip": 0.2, "dual_clip": 3,
                 "kl_coefficient": 0.01, "kl_place": "reward", "critic_model": "separate"}
    changed = resolve("ppo", overrides)
    assert options(changed) == options(ALGORITHMS["ppo"]) | overrides
    assert changed.objective(9, reference=True).critic.clip == 0.2
    assert changed.kl == Kl(coefficient=0.01, place="reward")
    assert resolve("gdpo", {"component_weights": (1.0, 0.5)}).advantage.keywords == {"component_weights": (1.0, 0.5)}


@pytest.mark.parametrize(("name", "overrides", "named"), [
    ("nrs", {}, "algorithm='nrs' is not known; did you mean nsr"),
    ("w_reinforce", {"positive_wieght": 0.5}, "did you mean positive_weight"),
    ("nsr", {"positive_weight": 0.5}, "nsr has no such option"),
    ("grpo", {"clip_low": "a"}, "objective.clip_low='a' of grpo must be a float"),
    ("grpo", {"dual_clip": "a"}, "objective.dual_clip='a' of grpo must be a number"),
    ("grpo", {"paper": "x"}, "grpo has no such option"),
    ("grpo", {"critic_clip": 0.1}, "grpo has no such option"),
    ("grpo", {"clip_low": 1.0}, "clip_low is 1.0; allowed: 0 <= clip_low < 1"),
    ("ppo", {"clip_high": -0.1}, "clip_high is -0.1"),
    ("pacs", {"beta": 0.0}, "beta is 0.0; allowed: 0 < beta"),
    ("grpo", {"aggregation": "mean"}, "mode is 'mean'"),
    ("grpo", {"kl_estimator": "k1", "kl_coefficient": 0.1}, "expected gradient of k1 as a loss is 0"),
    ("grpo", {"kl_coefficient": -1.0}, "kl_coefficient is -1.0"),
    ("grpo", {"kl_target": 0.1}, "kl_coefficient is 0.0; allowed: kl_coefficient > 0 with a kl_target"),
    ("nsr", {"kl_coefficient": 0.1, "kl_place": "reward"}, "kl_place is 'reward'; allowed: loss"),
    ("pacs", {"shaping_overlong_buffer": 2}, "nothing that changes rewards"),
    ("grpo", {"shaping_truncated": "drop"}, "shaping_truncated is 'drop'; allowed: verdict, penalise, mask"),
    ("grpo", {"mismatch_level": "word"}, "mismatch_level is 'word'; allowed: off, token, sequence"),
    ("grpo", {"mismatch_reject": "token", "mismatch_bound": 0.5}, "mismatch_bound is 0.5"),
    ("grpo", {"tokens_entropy_share": 1.5}, "tokens_entropy_share is 1.5"),
    ("grpo", {"entropy": -1.0}, "entropy is -1.0"),
    ("dapo", {"plan_refill": -1}, "plan_refill is -1"),
    ("grpo", {"plan_band_low": 0.9, "plan_band_high": 0.5}, r"plan_band_low is 0\.9; .* plan_band_high \(0\.5"),
    ("grpo", {"plan_draws": 4}, "grpo gives every problem as many answers; choose one that shares them out by GVM"),
    ("gvm_grpo", {"plan_refill": 4}, "gvm_grpo shares its answers out by GVM, and does not refill with more problems"),
    ("gvm_grpo", {"plan_alpha": -1.0}, r"alpha is -1\.0"),
    ("gvm_raft", {"plan_rounding": "half"}, "plan_rounding is 'half'; allowed: remainder, optimal"),
    ("gdpo", {"component_weights": (1.0, float("nan"))}, "component_weights is"),
    ("clip_cov", {"fraction": 2.0}, "fraction is 2.0"),
])
def test_mistakes_are_named_before_anything_runs(name, overrides, named):
    with pytest.raises(ValueError, match=named):
        resolve(name, overrides)


@pytest.mark.parametrize(("name", "overrides", "settings", "named"), [
    ("pacs", {}, {"samples": 1}, "rl.samples=1: pacs compares the answers to one problem"),
    ("grpo", {}, {"samples": 1}, "rl.samples=1: grpo compares"),
    ("psr", {"plan_refill": 2}, {"samples": 1}, "plan_refill=2 keeps groups whose rewards differ"),
    ("gvm_raft", {"plan_minimum": 9}, {"samples": 8}, "plan_minimum=9 answers to every problem are more than"),
    ("gvm_raft", {"plan_keep": True}, {"samples": 4}, "plan_draws=8: with plan_keep these answers are part of"),
    ("remax", {"replay_groups": 2}, {}, "remax needs greedy_rewards, which are not kept of earlier steps"),
    ("dapo", {"shaping_overlong_buffer": 20}, {"max_tokens": 12}, "shaping_overlong_buffer=20 is longer than"),
])
def test_settings_that_do_not_fit_the_algorithm_are_named(name, overrides, settings, named):
    with pytest.raises(ValueError, match=named):
        check(name, resolve(name, overrides), Experiment(rl=RL(**settings)))


@pytest.mark.parametrize(("name", "reward", "fits"), [
    ("psr", "binary", True), ("psr", "rate", False), ("pacs", "rate", True), ("pacs", "klear", False),
    ("grpo", "klear", True)])
def test_graded_rewards_are_refused_where_a_method_is_not_defined_on_them(name, reward, fits):
    experiment = Experiment(task=Task(kind="code", code=Code(reward=reward)))
    if fits:
        check(name, resolve(name, {}), experiment)
        return
    with pytest.raises(ValueError, match=f"task.code.reward='{reward}': {name} is defined on"):
        check(name, resolve(name, {}), experiment)


@pytest.mark.parametrize(("name", "overrides"), [("psr", {}), ("raft", {}), ("pacs", {"coupling": "naive"})])
def test_an_answer_alone_is_enough_for_methods_that_compare_nothing(name, overrides):
    check(name, resolve(name, overrides), Experiment(rl=RL(samples=1)))


def test_the_table_has_a_line_for_every_algorithm():
    lines = table().splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(ALGORITHMS)
    assert "signed(positive_weight=0.1)" in next(line for line in lines if line.startswith("w_reinforce"))
    assert "plan_refill=10" in next(line for line in lines if line.startswith("dapo"))
    assert "answers by GVM" in next(line for line in lines if line.startswith("gvm_raft"))


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
