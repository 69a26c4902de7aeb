import itertools
import random

import numpy as np
import pytest

from rl_reasoning import config, tasks
from rl_reasoning.tasks.countdown import Countdown
from rl_reasoning.types import Outcome, Problem

TASK = Countdown(config.Countdown())
PROBLEM = TASK.problem((3, 5, 7), 26)


@pytest.mark.parametrize(("text", "outcome", "word"), [
    ("3 * 7 = 21 21 + 5 = 26", Outcome.RIGHT, "reaches 26"),
    ("7 * 3 = 21 5 + 21 = 26", Outcome.RIGHT, "reaches 26"),
    ("3 * 7 = 21 21 - 5 = 16", Outcome.WRONG, "ends at 16"),
    ("3 * 7 = 22 22 + 5 = 27", Outcome.WRONG, "3 * 7 is not 22"),
    ("3 * 8 = 24 24 + 5 = 29", Outcome.WRONG, "8 is not there"),
    ("3 * 7 = 21 7 + 5 = 12", Outcome.WRONG, "7 is not there"),
    ("3 - 7 = 4 21 + 5 = 26", Outcome.WRONG, "3 - 7 is not 4"),
    ("26", Outcome.UNPARSABLE, "not 2 steps"),
    ("", Outcome.UNPARSABLE, "not 2 steps"),
    ("3 * 7 = 21", Outcome.UNPARSABLE, "not 2 steps"),
    ("3 * 7 = 21 21 + 5 = 26 3", Outcome.UNPARSABLE, "not 2 steps"),
    ("3 ** 7 = 21 21 + 5 = 26", Outcome.UNPARSABLE, "not 2 steps"),
    ("3 / 7 = 0 0 + 5 = 5", Outcome.UNPARSABLE, "not 2 steps"),
    ("٣ * 7 = 21 21 + 5 = 26", Outcome.UNPARSABLE, "not 2 steps"),
    ("3 * 7 = " + "9" * 10**6 + " 21 + 5 = 26", Outcome.UNPARSABLE, "not 2 steps"),
])
def test_verdicts(text, outcome, word):
    verdict = TASK.verify(PROBLEM, text)
    assert verdict.outcome == outcome
    assert verdict.reward == (1.0 if outcome == Outcome.RIGHT else 0.0)
    assert word in verdict.reason


def test_a_number_given_once_cannot_be_used_twice_but_twice_given_it_can():
    assert TASK.verify(TASK.problem((4, 4, 2), 18), "4 * 4 = 16 16 + 2 = 18").outcome == Outcome.RIGHT
    assert TASK.verify(TASK.problem((4, 3, 2), 18), "4 * 4 = 16 16 + 2 = 18").outcome == Outcome.WRONG


def test_every_problem_has_an_answer_and_every_reachable_target_is_a_problem():
    """Against a search that shares no code with the task."""
    small = Countdown(config.Countdown(numbers=3, high=4, limit=20))
    found = set()
    for numbers in itertools.combinations_with_replacement(range(1, 5), 3):
        for a, b, c in itertools.permutations(numbers):
            for first, second in itertools.product("+-*", repeat=2):
                middle = {"+": a + b, "-": a - b, "*": a * b}[first]
                for x, y in ((middle, c), (c, middle)):
                    last = {"+": x + y, "-": x - y, "*": x * y}[second]
                    if 0 <= middle <= 20 and 1 <= last <= 20:
                        found.add((numbers, last))
    train = small.train_problems()
    problems = [*train, *small.held_out_problems(len(small._problems) - len(train), 0)]
    assert {(tuple(sorted(p.metadata["numbers"])), p.answer) for p in problems} == found
    assert len({p.id for p in problems}) == len(problems)


def test_setting_a_has_the_known_number_of_problems():
    train = TASK.train_problems()
    assert len(train) + sum(tasks.is_held_out(p.id, 0.13) for p in TASK._problems) == 3311
    assert 380 < 3311 - len(train) < 480


def test_train_held_out_and_warm_start_are_disjoint():
    """T48: no trace of the warm start, wrong ones included, has a held-out problem."""
    held_out = {p.id for p in TASK.held_out_problems(300, seed=0)}
    assert not held_out & {p.id for p in TASK.train_problems()}
    ids = set()
    for prompt, _ in TASK.traces(random.Random(0), 5000, wrong=0.5):
        *numbers, _, target, _ = prompt.split()
        ids.add(TASK.problem([int(n) for n in numbers], int(target)).id)
    assert len(ids) > 1500
    assert not held_out & ids
    assert ids <= {p.id for p in TASK.train_problems()}


def test_held_out_choice_depends_on_the_seed_and_is_stable():
    assert TASK.held_out_problems(50, 0) == TASK.held_out_problems(100, 0)[:50]
    assert TASK.held_out_problems(50, 0) != TASK.held_out_problems(50, 1)
    assert TASK.held_out_problems(1, 0)[0].id == "countdown 5 5 6 > 4"


@pytest.mark.parametrize(("wrong", "low", "high"), [(0.0, 1.0, 1.0), (0.5, 0.5, 0.65), (1.0, 0.0, 0.25)])
def test_traces_are_well_formed_and_as_often_right_as_asked(wrong, low, high):
    rewards = []
    for prompt, answer in TASK.traces(random.Random(1), 800, wrong):
        *numbers, _, target, _ = prompt.split()
        verdict = TASK.verify(TASK.problem([int(n) for n in numbers], int(target)), answer)
        assert verdict.outcome in (Outcome.RIGHT, Outcome.WRONG)
        rewards.append(verdict.reward)
    assert low <= np.mean(rewards) <= high


def test_tokens_of_prompts_and_answers_have_the_lengths_that_are_planned_for():
    tokenizer = TASK.tokenizer()
    prompt, answer = TASK.traces(random.Random(2), 1, 0.0)[0]
    assert len(tokenizer.encode_prompt(prompt)) == 6
    assert len(tokenizer.encode(answer)) + 1 == TASK.longest_answer == 11
    assert tokenizer.decode([*tokenizer.encode(answer), tokenizer.eos_id]) == answer


@pytest.mark.parametrize(("settings", "named"), [
    ({"operations": "+x"}, "operations='\\+x'"), ({"operations": ""}, "operations=''"), ({"low": 13}, "13, 12, 60")])
def test_impossible_settings_are_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        Countdown(config.Countdown(**settings))


def test_asking_for_more_problems_than_there_are_says_how_many():
    with pytest.raises(ValueError, match="held-out problems and 9999 were asked for"):
        TASK.held_out_problems(9999, 0)


def test_a_verifier_that_raises_is_a_crash_and_never_a_wrong_answer():
    """T36: a broken verifier cannot look like a weak policy."""
    class Broken(Countdown):
        def verify(self, problem, text):
            raise ZeroDivisionError("no")

    verdict = tasks.verify(Broken(config.Countdown()), PROBLEM, "3 * 7 = 21 21 + 5 = 26")
    assert verdict.outcome == Outcome.CRASH
    assert np.isnan(verdict.reward)
    assert not verdict.scorable
    assert "ZeroDivisionError: no" in verdict.reason


def test_problem_numbers_are_the_same_everywhere():
    """T65: from the id's SHA-256, not from Python's hash."""
    assert Problem("countdown 3 5 7 > 26", "", None, "").number == PROBLEM.number == 1469993513
