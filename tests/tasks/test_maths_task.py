"""Where an answer is looked for, what is no answer, and the verdicts of the maths task."""

import math
from multiprocessing.reduction import ForkingPickler

import pytest

from rl_reasoning import config
from rl_reasoning.tasks import verify
from rl_reasoning.tasks.maths import algebra
from rl_reasoning.tasks.maths import task as maths
from rl_reasoning.tasks.maths.extraction import MOST_BOXES, NoAnswer, final_answer
from rl_reasoning.tasks.maths.task import Math
from rl_reasoning.tasks.pool import VerifierPool
from rl_reasoning.types import Outcome, Problem

QUESTION = r"Write $\frac{6}{8}$ in lowest terms. What is \sqrt {50}, simplified? What is 3 + 4? What is 4/10 of 1?"


def problem(answer):
    return Problem(f"math:{answer}", "", answer, "math", {"question": QUESTION})


def judge(text, answer="3", **settings):
    return Math(config.Math(**{"second_share": 0.0} | settings)).verify(problem(answer), text)


@pytest.mark.parametrize(("text", "answer"), [
    (r"so \boxed{3}.", "3"), (r"\boxed{1}, no, \boxed{3}", "3"), (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    (r"\boxed{\text{a \boxed{3} b}}", r"\text{a \boxed{3} b}"), (r"\fbox{3}", "3"), (r"so $\boxed 3$.", "3"),
    ("The answer is 3.", "3"), ("the final answer is: $x = 3$.", "$x = 3$"), ("Answer: 3.5\nmore", "3.5"),
    ("The answer is 2. No: the answer is 3.", "3"), ("**The answer is 3**", "3"),
    ("<answer>3</answer>", "3"), (r"<answer>so \boxed{3}</answer>", "3"), ("<answer> 3 </answer> the answer is 4", "3"),
    (r"<think>\boxed{2}</think> \boxed{3}", "3"), ("<think>the answer is 2</think>the answer is 3", "3"),
    (r"\boxed{2}</think>\boxed{3}", "3"), (r"the answer is 2, \boxed{3}", "3")])
def test_t37_the_answer_is_found(text, answer):
    assert final_answer(text) == answer


@pytest.mark.parametrize("text", [
    "", "3", r"\boxed{3", r"\boxed{1} \boxed{3", r"\boxed{}", r"\boxed{ }", r"<think>\boxed{3}",
    r"<think>\boxed{3}</think>",
    "<answer>3", "<answer>3</answer><answer>4", "<answer>3</answer><answer>4</answer>", "<answer></answer>",
    r"the answer is 3, \boxed{", "The answer is", "".join(rf"\boxed{{{i}}}" for i in range(MOST_BOXES + 1))])
def test_t37_t38_no_finished_answer(text):
    with pytest.raises(NoAnswer):
        final_answer(text)


@pytest.mark.parametrize(("form", "text", "found"), [
    ("boxed", r"\boxed{3}", True), ("boxed", "the answer is 3", False), ("boxed", "<answer>3</answer>", False),
    ("tags", "<answer>3</answer>", True), ("tags", r"\boxed{3}", False), ("phrase", "the answer is 3", True),
    ("phrase", r"\boxed{3}", False)])
def test_the_setting_says_where_an_answer_counts(form, text, found):
    assert (judge(text, answer_form=form).outcome is Outcome.RIGHT) == found


def test_outcomes_carry_reward_answer_and_reason():
    right, wrong, none = judge(r"\boxed{3.0}"), judge(r"\boxed{4}"), judge("3")
    assert (right.outcome, right.reward, right.answer) == (Outcome.RIGHT, 1.0, "3.0")
    assert (wrong.outcome, wrong.reward, wrong.answer) == (Outcome.WRONG, 0.0, "4")
    assert (none.outcome, none.reward, none.answer) == (Outcome.UNPARSABLE, 0.0, None)
    assert "'4' does not equal '3' (math_verify)" in wrong.reason


@pytest.mark.parametrize(("answer", "boxed", "right"), [
    (r"\frac{3}{4}", r"\frac{6}{8}", False), (r"\frac{3}{4}", r"\frac{3}{4}", True), (r"\frac{3}{4}", "0.75", True),
    (r"5\sqrt{2}", r"\sqrt{50}", False), (r"5\sqrt{2}", r"5\sqrt2", True), ("7", "3+4", False), ("7", "7", True),
    ("0.4", "4/10", False), ("0.4", "2/5", True), (r"\frac{4}{10}", "4/10", True)])
def test_t38_the_question_in_a_box_is_no_answer(answer, boxed, right):
    assert (judge(rf"\boxed{{{boxed}}}", answer).outcome is Outcome.RIGHT) == right


def test_any_of_several_answers():
    assert judge(r"\boxed{4}", ("3", "4")).outcome is Outcome.RIGHT
    assert judge(r"\boxed{5}", ("3", "4")).outcome is Outcome.WRONG
    assert judge(r"\boxed{3,4}", ("3", "4")).outcome is Outcome.WRONG


@pytest.mark.parametrize(("share", "seen"), [(0.0, (0, 0)), (1.0, (400, 400)), (0.25, (60, 140))])
def test_t39_a_second_grader_sees_a_share_and_changes_nothing(share, seen):
    verdicts = [judge(rf"try {i}: \boxed{{0.03}}", second_grader="math_equal", second_share=share) for i in range(400)]
    asked = [verdict.second for verdict in verdicts if verdict.second]
    assert seen[0] <= len(asked) <= seen[1]
    assert set(asked) <= {Outcome.RIGHT}  # a hundredth is right by the published rule
    assert {verdict.outcome for verdict in verdicts} == {Outcome.WRONG}


def broken(gold, answer):
    raise RuntimeError("no algebra today")


def test_t36_a_grader_that_raises_is_a_crash_and_not_a_wrong_answer(monkeypatch):
    monkeypatch.setattr(maths, "grade", lambda name, gold, answer: broken(gold, answer))
    verdict = verify(Math(config.Math()), problem("3"), r"\boxed{3}")
    assert verdict.outcome is Outcome.CRASH
    assert math.isnan(verdict.reward)
    assert "no algebra today" in verdict.reason


def test_t39_a_second_grader_that_raises_leaves_the_verdict(monkeypatch):
    grade = maths.grade
    monkeypatch.setattr(maths, "grade", lambda name, *texts: grade(name, *texts) if name == "exact" else broken(*texts))
    verdict = judge(r"\boxed{3}", grader="exact", second_grader="math_verify", second_share=1.0)
    assert (verdict.outcome, verdict.second) == (Outcome.RIGHT, Outcome.CRASH)


def test_the_task_travels_light_and_arrives_ready():
    """What a verifier's process gets holds no problems, and the first answer there waits for no import."""
    sent = ForkingPickler.dumps(Math(config.Math(), [problem("3")] * 5000))
    assert len(sent) < 2000
    algebra._library.cache_clear()
    task = ForkingPickler.loads(sent)
    assert algebra._library.cache_info().currsize == 1
    assert task.verify(problem("3"), r"\boxed{3}").outcome is Outcome.RIGHT


def test_t39_a_second_opinion_comes_back_from_the_workers():
    task = Math(config.Math(second_share=1.0))
    with VerifierPool(task, config.Verifier(workers=1)) as pool:
        (verdict,) = pool.verify_all([(problem("3"), r"\boxed{0.03}")])
    assert (verdict.outcome, verdict.second) == (Outcome.WRONG, Outcome.RIGHT)


def test_too_few_held_out_problems_are_an_error():
    with pytest.raises(ValueError, match="holds 1 problems and 2 were asked for"):
        Math(config.Math(), (), [problem("3")]).held_out_problems(2, 0)
