"""The search: as many problems at once as one by one, frozen parameters, when it stops, and what it returns."""

import numpy as np
import pytest

from rl_reasoning import rollouts
from rl_reasoning.config import Sampling
from rl_reasoning.latent import best_of, latent_search, search, steps
from rl_reasoning.latent.attempts import Attempts, vote
from rl_reasoning.latent.finish import Answers
from rl_reasoning.latent.rewards import by_function
from rl_reasoning.sampling import decode
from rl_reasoning.types import StopReason
from tests.latent import tiny


def run(problems=tiny.PROBLEMS, reward=tiny.odd, method="latent", **changes):
    return latent_search(tiny.POLICY, tiny.PARAMETERS, problems, by_function(reward), tiny.settings(**changes),
                         max_tokens=tiny.MOST, key=tiny.KEY, method=method)


@pytest.fixture(name="searched", scope="module")
def searched_once():
    before = tiny.checksum()
    attempts = run()
    assert tiny.checksum() == before  # the policy is as it was, to the bit
    return attempts


def test_a_search_stops_at_the_first_good_answer_and_after_all_steps_at_the_latest(searched):
    rewards, counts = searched.rewards, searched.counts
    assert counts.max() == 5
    assert 1 in counts  # some first answers are good
    assert len(set(counts)) > 2
    for row, count, length in zip(rewards, counts, searched.lengths[:, 0], strict=True):
        assert (row[:count - 1] == -1).all()
        assert row[count - 1] == 0 or count == 5 or length == 1  # half of one token is no latent
        assert np.isnan(row[count:]).all()
    assert (searched.tokens == searched.lengths).all()
    assert (searched.tokens.sum(axis=1) >= counts).all()


@pytest.mark.slow
def test_first_answers_are_the_likeliest(searched):
    greedy = Sampling(temperature=0.0, max_tokens=tiny.MOST)
    _, found = rollouts.sample(tiny.POLICY, tiny.PARAMETERS, tiny.PROBLEMS[:4], range(1), tiny.KEY, greedy)
    np.testing.assert_array_equal(searched.lengths[:4, 0], found.lengths[:, 0])
    np.testing.assert_array_equal(searched.ids[:4, 0], found.ids[:, 0])


@pytest.mark.parametrize(("method", "changes"), [
    ("latent", {}), pytest.param("latent", {"tokens": "sample", "baseline": "mean"}, marks=pytest.mark.slow),
    pytest.param("noise", {}, marks=pytest.mark.slow)])
def test_answers_do_not_depend_on_neighbours(method, changes):
    """Other neighbours in another order, and four side by side of the nine that there are: the same answers."""
    together = run(method=method, **changes)
    turned = run(tiny.PROBLEMS[::-1], method=method, **changes)
    np.testing.assert_array_equal(turned.ids[::-1], together.ids)
    np.testing.assert_array_equal(turned.counts[::-1], together.counts)
    assert together.counts.max() > 1
    assert (together.ids[:, 1] != together.ids[:, 0]).any()


@pytest.mark.slow
def test_one_by_one_gives_the_same_answers(searched):
    alone = [run([problem], batch=1) for problem in tiny.PROBLEMS]
    np.testing.assert_array_equal(np.concatenate([each.ids for each in alone]), searched.ids)
    np.testing.assert_array_equal(np.concatenate([each.rewards for each in alone]), searched.rewards)


def test_an_answer_too_short_for_a_latent_stays_as_it_is():
    attempts = run(reward=tiny.never)
    short = attempts.lengths[:, 0] == 1
    assert short.any()
    assert not short.all()
    assert (attempts.counts == np.where(short, 1, 5)).all()
    assert (attempts.chosen("last") == np.where(short, 0, 4)).all()


def test_settings_that_leave_no_latent_are_refused():
    with pytest.raises(ValueError, match=r"latent\.fraction=0\.1 of at most 8 tokens is no token; .* 0\.125"):
        run(fraction=0.1)


def test_no_reward_ends_a_search_and_is_never_chosen():
    """A verifier that fails says nothing about an answer, so it gives no direction and no low reward."""
    seen = {}

    def failing(problem, text):
        seen[problem.id] = seen.get(problem.id, 0) + 1
        return None if seen[problem.id] == 3 else -0.5

    attempts = run(reward=failing)
    searched = attempts.counts > 1
    assert (attempts.counts[searched] == 3).all()
    assert np.isnan(attempts.rewards[searched, 2]).all()
    assert (attempts.chosen("last")[searched] == 1).all()
    assert (attempts.chosen("best")[searched] == 0).all()


def test_a_broken_answer_is_rewarded_by_nobody():
    attempts, seen = Attempts.empty(tiny.POLICY, tiny.PROBLEMS[:2], 2, 3), []
    reward = by_function(lambda problem, text: seen.append((problem.id, text)) or -0.5)
    attempts.add(np.arange(2), Answers(np.array([[1, 2, 3], [4, 5, 6]]), np.array([3, 0]),
                                       np.array([StopReason.LENGTH, StopReason.NAN])), reward)
    assert seen == [("p0", "w1 w2 w3")]
    np.testing.assert_array_equal(attempts.rewards[:, 0], [-0.5, np.nan])
    assert attempts.tokens[:, 0].tolist() == [3, 0]


@pytest.mark.parametrize(("baseline", "expected"), [
    ("none", [[-0.2, -0.4, 0, 0], [-1, -1, -1, 0]]), ("mean", [[0.55, 0.35, 0, 0], [-1, -1, -1, 0]])])
def test_what_a_tokens_gradient_is_weighed_with(baseline, expected):
    """Its reward, less the mean of the problem's earlier rewards (-1 and -0.5); nothing beyond the answer's end."""
    attempts = Attempts.empty(tiny.POLICY, tiny.PROBLEMS[:2], 4, tiny.MOST)
    attempts.counts[:] = [3, 1]
    attempts.rewards[0, :3], attempts.rewards[1, 0] = [-1, -0.5, -0.4], -1
    attempts.process[0, 2, :2], attempts.process[1, 0] = [-0.2, -0.4], -1
    attempts.lengths[0, 2], attempts.lengths[1, 0] = 2, 3
    walk = search._LatentWalk(tiny.POLICY, tiny.PARAMETERS, attempts, tiny.settings(baseline=baseline), tiny.KEY, None)
    np.testing.assert_allclose(walk._weights(np.arange(2)), expected, atol=1e-6)


def test_other_lengths_and_problems_do_not_compile_again(searched):
    """T31."""
    programs = steps.climb, steps.read_latents, decode.prefill, decode.fill, decode.decode
    before = [program._cache_size() for program in programs]
    run([tiny.PROBLEMS[i] for i in (3, 1, 0, 7, 7, 7)])
    assert [program._cache_size() for program in programs] == before


def test_draws_are_the_samplers_and_stop_at_a_good_one(searched):
    sampling = Sampling(max_tokens=tiny.MOST)
    everything = best_of(tiny.POLICY, tiny.PARAMETERS, tiny.PROBLEMS, None, tiny.settings(), sampling=sampling,
                         key=tiny.KEY, most=4)
    for number in (0, 3):
        _, found = rollouts.sample(tiny.POLICY, tiny.PARAMETERS, tiny.PROBLEMS[:4], range(number, number + 1), tiny.KEY,
                                   sampling)
        np.testing.assert_array_equal(everything.ids[:4, number], found.ids[:, 0])
    likeliest_first = best_of(tiny.POLICY, tiny.PARAMETERS, tiny.PROBLEMS, None, tiny.settings(), sampling=sampling,
                              key=tiny.KEY, most=2, greedy_first=True)
    np.testing.assert_array_equal(likeliest_first.ids[:, 0], searched.ids[:, 0])
    np.testing.assert_array_equal(likeliest_first.ids[:, 1], everything.ids[:, 1])
    stopped = best_of(tiny.POLICY, tiny.PARAMETERS, tiny.PROBLEMS, by_function(tiny.odd), tiny.settings(),
                      sampling=sampling, key=tiny.KEY, most=4)
    for row, problem in enumerate(tiny.PROBLEMS):
        good = [tiny.odd(problem, everything.text(row, i)) == 0 for i in range(4)]
        assert stopped.counts[row] == (good.index(True) + 1 if True in good else 4)


def test_what_is_returned(searched):
    attempts = run(steps=1)
    attempts.rewards = np.array([[-0.5, -1.0], [-1.0, -0.5], [-0.5, -0.5], [np.nan, -1.0], [np.nan, np.nan]])
    attempts.lengths, attempts.counts = np.full((5, 2), 3), np.array([2, 2, 2, 2, 2])
    attempts.tokens = np.array([[3, 3], [3, 3], [3, 3], [3, 3], [9, 9]])
    assert attempts.chosen("last").tolist() == [1, 1, 1, 1, 0]
    assert attempts.chosen("best").tolist() == [0, 1, 0, 1, 0]
    assert attempts.returned("best")[1] == attempts.text(1, 1)
    assert attempts.chosen("last", budget=5).tolist() == [0, 0, 0, 0, 0]
    assert attempts.within(6).tolist() == [[True, True]] * 4 + [[True, False]]


def test_a_vote():
    answers = [["1", "2", "2"], ["1", "2", None], [None, None, "3"], [None, None, None], ["1", "2", "2"]]
    within = np.array([[True] * 3] * 4 + [[True, True, False]])
    assert vote(answers, within).tolist() == [1, 0, 2, 0, 0]
