"""Steps with as many answers to each problem as GVM gives it: counts, answers, weights, and the same again."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from two_arms import TwoArms, make_lab

from rl_reasoning.allocation import Estimates, answer_weights
from rl_reasoning.loop.reinforce import _collect, begin, make_trainer, train_step
from rl_reasoning.loop.state import arrays, facts, restored
from rl_reasoning.types import Outcome, Verdict

SIZE = {"steps": 4, "prompts": 8, "samples": 4, "minibatches": 2}


class Steps(TwoArms):
    """Problems 0 to 2 pay for `left` first, 3 and 4 for `left right`, the others for nothing."""

    def verify(self, problem, text):
        number, words = int(problem.id.split()[1]), text.split()
        right = words[:1] == ["left"] if number < 3 else number < 5 and words == ["left", "right"]
        return Verdict(Outcome.RIGHT if right else Outcome.WRONG, float(right), text, "scripted")


class Never(TwoArms):
    def verify(self, problem, text):
        return Verdict(Outcome.WRONG, 0.0, text, "never")


def trainer_of(name="gvm_raft_plus_plus", task=None, settings=None, **options):
    lab = make_lab(0, algorithm=name, task=task or Steps(), objective=options, **(SIZE | (settings or {})))
    return make_trainer(lab, name)


@pytest.fixture(name="trainer", scope="module")
def a_trainer():
    return trainer_of(settings={"analysis_every": 1})


def numbers_of(collected):
    """How many answers each problem has, by its number; and its answers' ids."""
    counts, ids = {}, {}
    for problem, row in zip(collected.rollout.problems, collected.rollout.completions.ids[:, 0], strict=True):
        number = int(problem.id.split()[1])
        counts[number] = counts.get(number, 0) + 1
        ids.setdefault(number, []).append(row.tolist())
    return counts, ids


def test_answers_go_where_some_are_right(trainer):
    first = trainer.lab.first()
    state = begin(trainer, first)
    collected = _collect(trainer, state, 1)
    counts, _ = numbers_of(collected)
    assert sum(counts.values()) == 32
    assert not set(counts) & {5, 6, 7}
    rates = dict(zip(map(str, collected.estimates.records), collected.estimates.rates(collected.estimates.records),
                     strict=True))
    assert rates["pull 6"] == 0 < rates["pull 0"]
    assert collected.metrics["plan/first_stage"] == 64
    assert collected.metrics["plan/unsampled"] == (8 - len(counts)) / 8
    assert collected.metrics["plan/variance_bound"] <= 1
    assert np.bincount(collected.groups).tolist() == [counts[n] for n in dict.fromkeys(
        int(problem.id.split()[1]) for problem in collected.rollout.problems)]
    answers = trainer.learner.answers(collected, state.train.parameters, first, 0.0, np.random.default_rng(0))
    for i, problem in enumerate(collected.rollout.problems):
        group = answers.groups[i]
        prompt = answers.prompt_ids[group, :answers.prompt_lengths[group]].tolist()
        assert prompt == trainer.lab.policy.tokenizer.encode_prompt(problem.prompt)


@pytest.mark.slow
def test_later_steps_draw_less_and_nothing_is_compiled_again(trainer):
    first = trainer.lab.first()
    state, rows = begin(trainer, first), []
    for step in range(1, 5):
        state, metrics, _ = train_step(trainer, state, step, first)
        rows.append(metrics)
        if step == 2:  # the first step with few answers in its first stage
            compiled = trainer.allocator.policy.engine.counts()["engine/compilations"]
    assert trainer.allocator.policy.engine.counts()["engine/compilations"] == compiled
    assert [row["plan/first_stage"] for row in rows] == [64, 0, 0, 0]  # eight problems, which come in every step
    assert np.isfinite([list(row.values()) for row in rows]).all()
    assert all(row["analysis/variance"] > 0 for row in rows)
    assert rows[0]["tokens/generated"] > rows[1]["tokens/generated"]
    assert rows[0]["mismatch/max"] < 1e-5


def test_killed_between_the_stages_and_resumed_from_a_file_gives_the_same_counts_and_answers(trainer):
    """A checkpoint keeps the state between steps; the step that was cut off is done again from it."""
    first = trainer.lab.first()
    state = begin(trainer, first)
    collected = _collect(trainer, state, 1)
    state = state._replace(step=1, drawn=collected.drawn, estimates=Estimates({
        name: record._replace(estimated=-9, drawn=record.drawn / 4)
        for name, record in collected.estimates.records.items()}))
    whole = _collect(trainer, state, 2)
    assert 0 < whole.metrics["plan/first_stage"] < 64

    class Killed(Exception):
        pass

    class Kill:
        calls = 0

        def verify_all(self, pairs):
            self.calls += 1
            if self.calls == 2:
                raise Killed
            return trainer.lab.verifier.verify_all(pairs)

    broken = dataclasses.replace(trainer, lab=dataclasses.replace(trainer.lab, verifier=Kill()))
    kept, said = jax.device_get(arrays(state)), json.dumps(facts(state, trainer.batches))
    with pytest.raises(Killed):
        _collect(broken, state, 2)
    other = trainer_of()
    resumed = restored(begin(other, first), kept, json.loads(said), other.batches)
    assert resumed.drawn == state.drawn
    again = _collect(other, resumed, resumed.step + 1)
    assert numbers_of(again) == numbers_of(whole)
    np.testing.assert_array_equal(again.rollout.completions.logprobs, whole.rollout.completions.logprobs)
    assert again.estimates == whole.estimates


def test_first_answers_can_be_kept_so_that_no_more_are_generated():
    plain, keeping = (_collect(trainer, begin(trainer, trainer.lab.first()), 1) for trainer in (
        trainer_of(plan_draws=2), trainer_of(plan_draws=2, plan_keep=True)))
    counts, ids = numbers_of(keeping)
    assert sum(counts.values()) == 32
    assert min(counts.values()) >= 2
    assert set(counts) == set(range(8))
    assert keeping.tokens == keeping.rollout.completions.lengths.sum()
    assert plain.tokens > plain.rollout.completions.lengths.sum()
    later = numbers_of(plain)[1]
    for number, rows in later.items():  # the second stage's answers are the same ones, numbered from plan_draws on
        both = min(len(rows), len(ids[number]) - 2)
        assert ids[number][2:2 + both] == rows[:both]


@pytest.mark.parametrize("kind", ["none", "counts", "rates"])
def test_weights_of_answers(kind):
    trainer = trainer_of("gvm_raft", plan_weights=kind, plan_minimum=1)
    state = begin(trainer, trainer.lab.first())
    collected = _collect(trainer, state, 1)
    answers = trainer.learner.answers(collected, state.train.parameters, trainer.lab.first(), 0.0,
                                      np.random.default_rng(0))
    sizes = np.bincount(collected.groups)
    expected = {"none": np.ones(8), "counts": answer_weights(sizes), "rates": answer_weights(sizes, collected.rates)}
    np.testing.assert_allclose(answers.extras["scale"], np.where(
        answers.mask, expected[kind][answers.groups, None], 0), rtol=1e-6)
    assert (answers.extras["advantages"] == np.where(answers.mask, collected.rollout.rewards, 0)).all()
    if kind == "rates":
        right = (answers.extras["rewards"] > 0) & (answers.extras["scale"][:, 0] == 0)
        assert not right.any()


@pytest.mark.slow
def test_nothing_accepted_is_shared_alike_and_teaches_nothing():
    trainer = trainer_of(task=Never())
    first = trainer.lab.first()
    state, metrics, _ = train_step(trainer, begin(trainer, first), 1, first)
    assert metrics["plan/most"] == 4
    assert metrics["plan/unsampled"] == 0
    assert metrics["plan/variance_bound"] == 1
    jax.tree.map(np.testing.assert_array_equal, state.train.parameters["policy"], first)


@pytest.mark.slow
@pytest.mark.parametrize("gradient", ["full", "equal"])
def test_other_norms(trainer, gradient):
    other = trainer_of(plan_gradient=gradient)
    state = begin(other, other.lab.first())
    head, found = (_collect(each, state, 1).estimates for each in (trainer, other))
    names = list(head.records)
    if gradient == "equal":
        assert found.norms(names).tolist() == [1] * 8
    else:
        solved = [name for name in names if head.records[name].measured]
        assert (found.norms(solved) > head.norms(solved)).all()


@pytest.mark.slow
def test_a_band_passes_over_what_is_never_solved():
    class Half(TwoArms):
        def verify(self, problem, text):
            right = int(problem.id.split()[1]) < 4
            return Verdict(Outcome.RIGHT if right else Outcome.WRONG, float(right), text, "scripted")

    trainer = trainer_of("grpo", Half(), plan_band_low=0.01, settings={"prompts": 4})
    state, seen = begin(trainer, trainer.lab.first()), []
    for step in range(1, 5):
        collected = _collect(trainer, state, step)
        state = state._replace(drawn=collected.drawn, estimates=collected.estimates)
        seen.append(({problem.id for problem in collected.rollout.problems}, collected.metrics["plan/passed_over"]))
    assert {f"pull {i}" for i in range(8)} == seen[0][0] | seen[1][0]
    assert seen[2][0] == seen[3][0] == {f"pull {i}" for i in range(4)}
    assert seen[0][1] == 0 < seen[2][1] + seen[3][1]
    high = dataclasses.replace(trainer, algorithm=dataclasses.replace(trainer.algorithm, plan=dataclasses.replace(
        trainer.algorithm.plan, band_low=0.4, band_high=0.6)))
    again = _collect(high, state, 5)
    assert len({problem.id for problem in again.rollout.problems}) == 4  # none is inside: they are drawn all the same


def test_a_problem_that_comes_twice_in_a_batch_is_one(trainer):
    doubled = dataclasses.replace(trainer, batches=[list(trainer.lab.train[:4]) * 2])
    collected = _collect(doubled, begin(trainer, trainer.lab.first()), 1)
    assert collected.metrics["plan/first_stage"] == 4 * 8
    assert len(collected.rollout.problems) == 32
