"""Steps that train on earlier answers, too: which, in which group, with which weight; off unless asked for."""

import json

import jax
import numpy as np
import pytest
from test_allocate import SIZE, Steps
from two_arms import TwoArms, make_lab

from rl_reasoning.allocation import History
from rl_reasoning.loop import reuse
from rl_reasoning.loop.reinforce import _collect, begin, make_trainer, train_step


def trainer_of(name, task=None, **options):
    return make_trainer(make_lab(0, algorithm=name, task=task or Steps(), objective=options, **SIZE), name)


def moved(state):
    """The same state with another policy."""
    parameters = jax.tree.map(lambda leaf: 1.3 * leaf, state.train.parameters)
    return state._replace(train=state.train._replace(parameters=parameters))


def after_a_step(trainer):
    """The state after a first step that changed nothing but what is remembered."""
    first = trainer.lab.first()
    state = begin(trainer, first)
    collected = _collect(trainer, state, 1)
    answers = trainer.learner.answers(collected, state.train.parameters, first, 0.0, np.random.default_rng(0))
    history = reuse.remembered(trainer.algorithm.replay, state.history, collected, answers, 1)
    return state._replace(step=1, drawn=collected.drawn, estimates=collected.estimates, history=history)


def second_step(trainer):
    """The state after a step, then with another policy: what a second step collects, recalls and would read."""
    first, state = trainer.lab.first(), moved(after_a_step(trainer))
    collected = _collect(trainer, state, 2)
    recalled = reuse.recalled(trainer.algorithm.replay, state.history, collected, 2, 0)
    answers = trainer.learner.answers(collected, state.train.parameters, first, 0.0, np.random.default_rng(0), recalled)
    return state, collected, recalled, answers


@pytest.mark.slow
def test_groups_of_the_last_steps_come_back_with_cut_weights():
    trainer = trainer_of("grpo", TwoArms(), replay_groups=2, replay_high=1.05)
    state, collected, recalled, answers = second_step(trainer)
    assert len(recalled.alone) == 2
    assert len(state.history.recent) >= 2
    extras, reused = answers.extras, answers.extras["reused"]
    assert reused.sum() == 8
    assert len(answers.lengths) == 40
    assert answers.groups.tolist() == sorted(answers.groups)
    for group, place in zip(recalled.alone, (8, 9), strict=True):
        rows = answers.groups == place
        np.testing.assert_array_equal(answers.ids[rows], group.ids)
        mask = answers.mask[rows]
        ratio = np.exp(extras["own_logprobs"][rows] - group.logprobs)
        np.testing.assert_allclose(extras["scale"][rows][mask], np.minimum(ratio, 1.05)[mask], rtol=1e-5)
        np.testing.assert_array_equal(extras["old_logprobs"][rows], extras["own_logprobs"][rows])
        rewards = group.rewards
        expected = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-6)
        np.testing.assert_allclose(extras["advantages"][rows, 0], expected, rtol=1e-4)
        assert np.abs(ratio[mask] - 1).max() > 0.01
    fresh = ~reused
    np.testing.assert_array_equal(extras["scale"][fresh], answers.mask[fresh])
    np.testing.assert_array_equal(extras["old_logprobs"][fresh],
                                  collected.rollout.completions.logprobs.reshape(32, -1))


def test_right_answers_join_the_problem_that_has_none():
    class Seldom(Steps):
        """Pays in the first step alone, for problem 0."""

        paid = True

        def verify(self, problem, text):
            verdict = super().verify(problem, text)
            return verdict if self.paid and problem.id == "pull 0" else super().verify(self.problems[-1], text)

    task = Seldom()
    trainer = trainer_of("grpo", task, replay_positives=1, replay_rare=1.0)
    first, state = trainer.lab.first(), after_a_step(trainer)
    assert set(state.history.positives) == {"pull 0"}
    task.paid = False
    collected = _collect(trainer, state, 2)
    recalled = reuse.recalled(trainer.algorithm.replay, state.history, collected, 2, 0)
    answers = trainer.learner.answers(collected, state.train.parameters, first, 0.0, np.random.default_rng(0), recalled)
    place = [problem.id for problem in collected.problems].index("pull 0")
    rows = answers.groups == place
    assert rows.sum() == 5
    assert answers.extras["reused"].tolist() == (np.arange(33) == np.flatnonzero(rows)[-1]).tolist()
    assert answers.extras["advantages"][rows, 0].argmax() == 4
    assert answers.extras["advantages"][~rows].any() == np.False_


@pytest.mark.slow
@pytest.mark.parametrize("name", ["raft_plus_plus", "gvm_grpo"])
def test_whole_steps_and_a_state_from_a_file(name):
    trainer = trainer_of(name, replay_groups=2, replay_positives=1)
    first = trainer.lab.first()
    state, metrics, _ = train_step(trainer, begin(trainer, first), 1, first)
    assert metrics["reuse/answers"] == 0
    again = state._replace(history=History.from_state(json.loads(json.dumps(state.history.get_state()))))
    # An update donates what it is given.
    copy = jax.tree.map(np.array, state.train.parameters), jax.tree.map(np.array, state.train.optimizer)
    _, metrics, _ = train_step(trainer, state, 2, first)
    assert metrics["reuse/answers"] > 0
    assert 0 < metrics["reuse/weight"] <= 2
    assert np.isfinite(list(metrics.values())).all()
    again = again._replace(train=again.train._replace(
        parameters=jax.tree.map(jax.numpy.asarray, copy[0]), optimizer=jax.tree.map(jax.numpy.asarray, copy[1]),
        updates=jax.numpy.int32(2)))
    assert train_step(trainer, again, 2, first)[1] == metrics


def test_it_is_off_unless_asked_for():
    trainer = trainer_of("grpo")
    state, first = after_a_step(trainer), trainer.lab.first()
    assert state.history == History()
    collected = _collect(trainer, state, 2)
    assert reuse.recalled(trainer.algorithm.replay, state.history, collected, 2, 0) is None
    assert reuse.metrics(trainer.learner.answers(collected, state.train.parameters, first, 0.0,
                                                 np.random.default_rng(0))) == {}
