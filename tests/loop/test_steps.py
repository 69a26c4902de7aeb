"""What the options of an algorithm do to a step: which problems, which rewards, which answers count."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from two_arms import TwoArms, make_lab

from rl_reasoning import advantages
from rl_reasoning.loop.collect import collect, is_mixed
from rl_reasoning.loop.learn import next_kl_coefficient
from rl_reasoning.loop.reinforce import begin, make_trainer, train_step
from rl_reasoning.options import resolve
from rl_reasoning.types import Outcome, Verdict

SIZE = {"steps": 4, "prompts": 8, "samples": 4, "minibatches": 1}


def trainer_of(name, task=None, settings=None, **options):
    return make_trainer(make_lab(0, algorithm=name, task=task, objective=options, **(SIZE | (settings or {}))), name)


def step_answers(trainer, kl_coefficient=0.0, reference=None):
    """What a first step collects and what its updates would read, in the order of the answers."""
    first = trainer.lab.first()
    state = begin(trainer, first)
    collected = collect(trainer.lab, trainer.algorithm, first, trainer.batches, 0, 1)
    return collected, trainer.learner.answers(collected, state.train.parameters, reference, kl_coefficient,
                                              np.random.default_rng(0))


def moved(policy, by=0.5):
    """Another policy: its embeddings, which are also its output layer, stretched."""
    return jax.tree.map(lambda leaf: leaf * (1 + by), policy)


class Scripted(TwoArms):
    """Pays by the problem: a group has equal rewards unless its number is in `mixed`."""

    def __init__(self, mixed):
        super().__init__()
        self.mixed = mixed

    def verify(self, problem, text):
        if int(problem.id.split()[1]) in self.mixed:
            return super().verify(problem, text)
        return Verdict(Outcome.WRONG, 0.0, None, "always")


def test_refill_draws_more_problems_until_the_batch_is_informative():
    trainer = trainer_of("dapo", Scripted(mixed={0, 1, 2, 3}))
    collected, answers = step_answers(trainer)
    assert collected.drawn > 1
    assert is_mixed(collected.rollout.rewards).sum() == 8 - collected.uniform.sum()
    assert not collected.uniform.any()
    assert answers.extras["weights"].sum() == answers.lengths.sum()
    ids = [problem.id for problem in collected.rollout.problems]
    again = [i for i in range(8) if ids.count(ids[i]) > 1]
    assert again  # eight problems of four kinds: some came twice, and must not have given the same answers twice
    twice = [i for i in range(8) if ids[i] == ids[again[0]]]
    assert (collected.rollout.completions.logprobs[twice[0]] != collected.rollout.completions.logprobs[twice[1]]).any()


def test_the_share_of_padding_is_what_prompts_and_answers_leave_of_the_rows():
    trainer = trainer_of("nsr")
    _, answers = step_answers(trainer)
    first = trainer.lab.first()
    _, metrics, _ = train_step(trainer, begin(trainer, first), 1, first)
    tokens = answers.prompt_lengths.sum() + answers.lengths.sum()  # a group's answers share one copy of its prompt
    assert metrics["tokens/padding"] == pytest.approx(1 - tokens / trainer.learner.whole(answers).tokens.size)
    assert 0 < metrics["tokens/padding"] < 1


def test_a_refill_that_finds_too_little_stops_at_its_cap_and_fills_up_with_what_does_not_count():
    trainer = trainer_of("dapo", Scripted(mixed={0}), plan_refill=2)
    collected, answers = step_answers(trainer)
    assert collected.drawn == 3
    assert 5 <= collected.uniform.sum() < 8
    counted = answers.extras["weights"].sum(axis=1) > 0
    assert (counted == ~collected.uniform[answers.groups]).all()
    first = trainer.lab.first()
    state, metrics, _ = train_step(trainer, begin(trainer, first), 1, first)
    assert state.drawn == 3
    assert metrics["plan/rounds"] == 3
    assert metrics["plan/informative"] == 1 - collected.uniform.mean()


def test_nothing_informative_changes_nothing():
    trainer = trainer_of("dapo", Scripted(mixed=set()), plan_refill=1)
    first = trainer.lab.first()
    state, metrics, _ = train_step(trainer, begin(trainer, first), 1, first)
    assert metrics["optimizer/idle"] == 1
    assert metrics["plan/informative"] == 0
    jax.tree.map(np.testing.assert_array_equal, state.train.parameters["policy"], first)


def test_remax_subtracts_the_greedy_answers_reward():
    trainer = trainer_of("remax")
    collected, answers = step_answers(trainer)
    greedy = np.repeat(collected.greedy, 4)
    assert set(collected.greedy) <= {0.0, 1.0}
    expected = np.where(answers.mask, (collected.rollout.rewards.ravel() - greedy)[:, None], 0)
    np.testing.assert_array_equal(answers.extras["advantages"], expected)
    assert step_answers(trainer_of("rloo"))[0].greedy is None


def test_gdpo_reads_the_parts_of_a_reward():
    class Parts(TwoArms):
        def verify(self, problem, text):
            verdict = super().verify(problem, text)
            return dataclasses.replace(verdict, components={"right": verdict.reward, "short": float(len(text) < 6)})

    collected, answers = step_answers(trainer_of("gdpo", Parts(), component_weights=(1.0, 2.0)))
    components = collected.rollout.components
    assert components.shape == (8, 4, 2)
    short = [[len(text) < 6 for text in row] for row in collected.rollout.texts]
    np.testing.assert_array_equal(components[..., 1], short)
    expected = advantages.gdpo(advantages.AdvantageInputs(
        collected.rollout.rewards.ravel(), answers.groups, answers.lengths, answers.mask,
        reward_components=components.reshape(32, 2)), component_weights=(1.0, 2.0))
    np.testing.assert_allclose(answers.extras["advantages"][:, 0], expected.values, atol=1e-6)
    # Without parts of a verifier's own: the reward, and whether an answer could be read.
    assert step_answers(trainer_of("gdpo"))[0].rollout.components.shape == (8, 4, 2)


def test_verdicts_that_name_different_parts_are_refused():
    class Uneven(TwoArms):
        def verify(self, problem, text):
            verdict = super().verify(problem, text)
            return dataclasses.replace(verdict, components={"a" if verdict.reward else "b": 1.0})

    with pytest.raises(ValueError, match="reward components"):
        step_answers(trainer_of("gdpo", Uneven()))


@pytest.mark.parametrize(("treatment", "counted", "reward"), [("verdict", True, None), ("penalise", True, -0.5),
                                                              ("mask", False, None)])
def test_truncated_answers(treatment, counted, reward):
    """T47: in the baseline of their group whatever happens, with the reward that was asked for."""
    trainer = trainer_of("rloo", shaping_truncated=treatment, shaping_truncated_reward=-0.5)
    collected, answers = step_answers(trainer)
    cut = collected.rollout.truncated.ravel()
    assert 0 < cut.sum() < len(cut)
    rewards = collected.rollout.rewards.ravel()
    shaped = np.where(cut, reward, rewards) if reward is not None else rewards
    np.testing.assert_array_equal(answers.extras["rewards"], shaped.astype(np.float32))
    group = shaped.reshape(8, 4)
    expected = (group - group.mean(axis=1, keepdims=True)) * 4 / 3
    np.testing.assert_allclose(answers.extras["advantages"][:, 0], expected.ravel(), atol=1e-6)
    assert ((answers.extras["weights"].sum(axis=1) > 0) == (counted | ~cut)).all()


def test_overlong_shaping_counts_tokens():
    collected, answers = step_answers(trainer_of("dapo", shaping_overlong_buffer=2, shaping_overlong_factor=0.5,
                                                 plan_refill=0))
    lengths = collected.rollout.completions.lengths.ravel()
    assert set(lengths) == {1, 2}
    expected = collected.rollout.rewards.ravel() - 0.5 * lengths / 2
    np.testing.assert_allclose(answers.extras["rewards"], expected)


def test_informative_only_takes_equal_groups_out_of_the_denominator():
    collected, answers = step_answers(trainer_of("grpo", Scripted(mixed={0, 1}), shaping_informative_only=True))
    mixed = is_mixed(collected.rollout.rewards)
    assert 0 < mixed.sum() < 8
    assert ((answers.extras["weights"].sum(axis=1) > 0) == mixed[answers.groups]).all()


def test_kl_in_reward_of_tokens_and_of_answers():
    """Minus beta k1 of each token: in the returns of REINFORCE++, summed over the answer in those of RLOO."""
    for name in ("rloo", "reinforce_plus_plus"):
        trainer = trainer_of(name, kl_coefficient=0.3, kl_place="reward", kl_estimator="k1")
        reference = moved(trainer.lab.first())
        collected, answers = step_answers(trainer, 0.3, reference)
        extras, mask, rewards = answers.extras, answers.mask, collected.rollout.rewards.ravel()
        distance = np.where(mask, extras["old_logprobs"] - extras["ref_logprobs"], 0)
        assert np.abs(distance).max() > 0.01
        if name == "rloo":
            group = (rewards - 0.3 * distance.sum(axis=1)).reshape(8, 4)
            expected = np.repeat(((group - group.mean(axis=1, keepdims=True)) * 4 / 3).reshape(-1, 1), 2, 1)
        else:
            tokens = -0.3 * distance + np.where(np.arange(2) == answers.lengths[:, None] - 1, rewards[:, None], 0)
            expected = advantages.whiten(np.cumsum(tokens[:, ::-1], axis=1)[:, ::-1], mask)
        np.testing.assert_allclose(np.where(mask, extras["advantages"], 0), np.where(mask, expected, 0), atol=1e-5)


def test_an_adaptive_coefficient_moves_towards_its_target():
    algorithm = resolve("reinforce_plus_plus", {"kl_coefficient": 0.1, "kl_place": "reward", "kl_target": 0.05,
                                                "kl_horizon": 100})
    assert next_kl_coefficient(algorithm, 0.1, 0.5, 32) == pytest.approx(0.1 * (1 + 0.2 * 0.32))
    assert next_kl_coefficient(algorithm, 0.1, 0.0, 32) == pytest.approx(0.1 * (1 - 0.2 * 0.32))
    assert next_kl_coefficient(resolve("grpo", {}), 0.1, 0.5, 32) == 0.1
    trainer = trainer_of("reinforce_plus_plus", kl_coefficient=0.1, kl_place="reward", kl_target=0.05, kl_horizon=100)
    first = trainer.lab.first()
    state, metrics, _ = train_step(trainer, begin(trainer, first), 1, first)
    assert metrics["kl/coefficient"] == 0.1
    assert state.kl_coefficient == pytest.approx(next_kl_coefficient(trainer.algorithm, 0.1,
                                                                     metrics["policy/kl_reference"], 32))


def test_kl_in_the_loss_holds_the_policy_back():
    """The strong pull ends nearer to the reference than no pull, on the same rollouts."""
    distances = []
    for coefficient in (0.0, 10.0):
        trainer = trainer_of("grpo", settings={"minibatches": 4}, kl_coefficient=coefficient)
        first = trainer.lab.first()
        state = begin(trainer, first)
        for step in range(1, 5):
            state, metrics, _ = train_step(trainer, state, step, first)
        distances.append(metrics["policy/kl_reference"])
        assert ("loss/kl" in metrics) == (coefficient > 0)
    assert distances[1] < 0.5 * distances[0]


def test_top_p_rollouts_are_corrected_by_the_trainers_own_log_probabilities():
    """The sampler's probabilities are those of the cut distribution; weights are the ratio to the trainer's."""
    settings = {"top_p": 0.6, "max_tokens": 2}
    plain = step_answers(trainer_of("grpo", settings=settings))[1]
    _, weighted = step_answers(trainer_of("grpo", settings=settings, mismatch_level="token"))
    mask, sampler, own = plain.mask, plain.extras["old_logprobs"], weighted.extras["old_logprobs"]
    ratio = np.exp(own - sampler)
    assert np.abs(ratio[mask] - 1).max() > 0.1
    np.testing.assert_allclose(weighted.extras["scale"][mask], np.minimum(ratio, 2)[mask], rtol=1e-4)
    bound = float(np.exp(np.median(np.abs(own - sampler)[mask]))) + 1e-6
    _, rejected = step_answers(trainer_of("grpo", settings=settings, mismatch_reject="token", mismatch_bound=bound))
    keep = mask & (np.abs(own - sampler) <= np.log(bound))
    assert 0 < keep.sum() < mask.sum()
    assert ((rejected.extras["weights"] > 0) == (keep & (plain.extras["weights"] > 0))).all()


def test_the_joint_supervised_term_raises_right_answers_alone():
    """With advantages of zero only that term moves the policy: towards the right answers' likelihood."""
    trainer = trainer_of("grpo", settings={"minibatches": 1}, supervised=1.0)
    trainer = dataclasses.replace(trainer, learner=dataclasses.replace(
        trainer.learner, estimate=lambda inputs: advantages.Advantages(
            np.zeros(len(inputs.rewards), np.float32), np.ones(len(inputs.rewards), np.float32))))
    first = trainer.lab.first()
    state, metrics, _ = train_step(trainer, begin(trainer, first), 1, first)
    _, after, _ = train_step(trainer, state._replace(drawn=0), 2, first)
    assert metrics["loss/supervised"] > 0
    assert metrics["gradient/right_share"] == 0
    assert after["reward/right"] > metrics["reward/right"]


def test_live_view_of_the_gradient():
    """PSR's comes from right answers alone, NSR's from wrong ones; an analysis says where probability goes."""
    shares = {}
    for name in ("psr", "nsr", "grpo"):
        trainer = trainer_of(name, settings={"analysis_every": 1})
        first = trainer.lab.first()
        _, metrics, _ = train_step(trainer, begin(trainer, first), 1, first)
        shares[name] = metrics["gradient/right_share"]
        assert metrics["policy/kl_reference"] == pytest.approx(0, abs=1e-6)
        assert metrics["ratio/std"] == pytest.approx(0, abs=1e-3)
        assert {name.split("/")[1] for name in metrics if name.startswith("analysis/")} == {"right", "wrong"}
    assert shares["psr"] == pytest.approx(1)
    assert shares["nsr"] == pytest.approx(0)
    assert 0.2 < shares["grpo"] < 0.8


@pytest.mark.parametrize("name", ["ppo", "otb"])
def test_what_an_advantage_needs_is_scored_before_the_update(name):
    options = {"critic_model": "separate"} if name == "ppo" else {}
    trainer = trainer_of(name, **options)
    first, metrics = trainer.lab.first(), None
    state = begin(trainer, first)
    for step in (1, 2):
        state, metrics, _ = train_step(trainer, state, step, first)
    assert np.isfinite(list(metrics.values())).all()
    if name == "ppo":
        changed = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), state.train.parameters["critic"], first)
        assert max(jax.tree.leaves(changed)) > 0


def test_clip_cov_draws_from_the_updates_number_and_repeats():
    runs = []
    for _ in range(2):
        trainer = trainer_of("clip_cov", settings={"minibatches": 2}, fraction=0.3, covariance_low=-5.0)
        first = trainer.lab.first()
        _, metrics, _ = train_step(trainer, begin(trainer, first), 1, first)
        runs.append(metrics)
    assert runs[0] == runs[1]
    assert 0 < runs[0]["tokens/selected"] <= 0.35
    assert functools.reduce(lambda a, b: a and b, map(np.isfinite, runs[0].values()))
