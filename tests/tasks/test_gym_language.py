"""A generator as a language of its own: what its traces say, and that they keep to the training side."""

import random

import pytest

from rl_reasoning.config import Gym
from rl_reasoning.tasks import Language
from rl_reasoning.tasks.gym_language import GymLanguage
from rl_reasoning.tasks.pool.wire import pack, unpack
from rl_reasoning.types import Outcome

OPTIONS = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}


@pytest.fixture(name="task", scope="module")
def sums():
    return GymLanguage(Gym(name="chain_sum", options=OPTIONS, size=64, instruction=False))


def test_traces_are_right_but_for_the_share_that_is_wrong_and_never_of_held_out_problems(task):
    assert isinstance(task, Language)
    held_out = {problem.prompt for problem in task.held_out_problems(10, 0)}
    of = {problem.prompt: problem for problem in task._shown}
    for wrong, low, high in ((0.0, 1.0, 1.0), (0.5, 0.45, 0.65), (1.0, 0.0, 0.2)):
        traces = task.traces(random.Random(0), 400, wrong)
        assert len(traces) == 400
        assert not held_out & {prompt for prompt, _ in traces}
        right = [task.verify(of[prompt], answer).outcome is Outcome.RIGHT for prompt, answer in traces]
        assert low <= sum(right) / 400 <= high


def test_its_tokens_hold_every_problem_and_answer(task):
    tokenizer = task.tokenizer()
    for problem in (*task.train_problems(), *task.held_out_problems(10, 0)):
        assert tokenizer.decode(tokenizer.encode_prompt(problem.prompt)) == problem.prompt[0].content
        assert problem.prompt[0].content == problem.answer["question"]
        assert len(tokenizer.encode(f"<answer>{problem.answer['answer']}</answer>")) < task.longest_answer
    assert task.longest_answer == 5  # two tags, two digits or one and a sign, and the end


def test_a_copy_for_a_verifier_s_process_scores_alike(task):
    again = unpack(pack(task))
    problem = task.train_problems()[0]
    for answer in (problem.answer["answer"], "99"):
        text = f"<answer>{answer}</answer>"
        assert again.verify(problem, text) == task.verify(problem, text)
