"""Sums: a fair split, problems that do not give their answer away, and a verifier that trusts no text."""

import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_reasoning import config
from rl_reasoning.tasks.arithmetic import SHOTS, TRAIN_PROBLEMS, Arithmetic
from rl_reasoning.types import Message, Outcome, Problem


def small(**changes):
    return Arithmetic(config.Arithmetic(**{"terms": 2, "digits_low": 1, "digits_high": 1, **changes}))


def problem(answer):
    return Problem(id="arithmetic:x", prompt="", answer=answer, task="arithmetic")


def value_of(expression):
    """Left to right, as a reader would."""
    return sum(int(term) for term in expression.replace("- ", "-").replace("+ ", "").split())


@pytest.fixture(name="task", scope="module")
def default_task():
    return Arithmetic(config.Arithmetic())


def test_problems_state_a_sum_whose_value_is_the_answer(task):
    problems = task.train_problems()
    assert len(problems) == TRAIN_PROBLEMS
    for item in problems:
        expression = item.prompt[-1].content.removesuffix(" = ?")
        assert item.answer == value_of(expression)
        assert (item.id, item.task) == (f"arithmetic:{expression.replace(' ', '')}", "arithmetic")
        assert re.fullmatch(r"\d{1,2} [+-] \d{1,2}", expression)
        json.dumps(item.metadata)


def test_the_prompt_shows_two_sums_worked_in_the_form_that_is_verified(task):
    prompt = task.train_problems()[0].prompt
    assert [turn.role for turn in prompt] == ["user", "assistant", "user", "assistant", "user"]
    assert prompt[:2] == (Message("user", "35 + 86 = ?"), Message("assistant", "35 + 86 = 121\n\\boxed{121}"))
    for (expression, answer), shown in zip(SHOTS, prompt[1::2], strict=True):
        assert value_of(expression) == answer
        assert task.verify(problem(answer), shown.content).outcome is Outcome.RIGHT


def test_t48_train_and_held_out_problems_never_meet(task):
    train = {item.id for item in task.train_problems()}
    for seed in (0, 1):
        held_out = [item.id for item in task.held_out_problems(200, seed)]
        assert len(set(held_out)) == 200
        assert not train & set(held_out)
    assert len(train) == TRAIN_PROBLEMS


def test_every_sum_is_on_one_side_and_the_shown_ones_on_none():
    """200 sums of two one-digit numbers exist; two-digit shots are none of them."""
    task = small()
    train = task.train_problems()
    held_out = 200 - len(train)
    assert 20 <= held_out <= 60
    assert {item.id for item in train} | {item.id for item in task.held_out_problems(held_out, 0)} == {
        f"arithmetic:{a}{sign}{b}" for a in range(10) for b in range(10) for sign in "+-"}
    shown = {f"arithmetic:{expression.replace(' ', '')}" for expression, _ in SHOTS}
    two_digits = small(digits_low=2, digits_high=2, held_out=0.001)
    with pytest.raises(ValueError, match="100 held-out problems asked for, and") as caught:
        two_digits.held_out_problems(100, 0)
    found = int(re.search(r"and (\d+) exist", str(caught.value))[1])
    assert not shown & {item.id for item in two_digits.held_out_problems(found, 0)}


def test_too_few_held_out_problems_says_how_many_there_are():
    task = small()
    exist = 200 - len(task.train_problems())
    with pytest.raises(ValueError, match=rf"{exist + 1} held-out problems asked for, and {exist} exist"):
        task.held_out_problems(exist + 1, 0)
    with pytest.raises(ValueError, match=r"1 held-out problems asked for, and 0 exist with held_out=0\.0"):
        small(held_out=0.0).held_out_problems(1, 0)


def test_seeds_give_different_problems_and_neighbours_share_few(task):
    """The generator seeds item i with seed + i; without care, seeds 0 and 1 would differ in one problem."""
    first, second = ({item.id for item in task.held_out_problems(64, seed)} for seed in (0, 1))
    assert len(first & second) < 40
    assert task.held_out_problems(64, 0) == task.held_out_problems(64, 0)
    assert task.held_out_problems(64, 0)[:10] == task.held_out_problems(10, 0)


def test_t65_the_split_is_the_same_in_another_process(task):
    code = ("from rl_reasoning import config; from rl_reasoning.tasks.arithmetic import Arithmetic; import sys\n"
            "t = Arithmetic(config.Arithmetic())\n"
            "sys.stdout.write(' '.join(p.id for p in (*t.train_problems()[:50], *t.held_out_problems(50, 3))))")
    elsewhere = os.environ | {"PYTHONHASHSEED": "7", "LC_ALL": "C", "TZ": "UTC+9"}
    other = subprocess.run([sys.executable, "-c", code], env=elsewhere, capture_output=True, text=True,
                           check=True).stdout
    assert other.split() == [item.id for item in (*task.train_problems()[:50], *task.held_out_problems(50, 3))]


RIGHT = [
    r"\boxed{121}", "35 + 86 = 121\n\\boxed{121}", r"\boxed{ 121 }", r"\boxed{+121}", r"\boxed{0121}", r"\boxed{121.}",
    r"\boxed{121.00}", r"\boxed{(121)}", r"\boxed{[121]}", r"\boxed{{121}}", r"\boxed{\{121\}}", r"\boxed{$121$}",
    r"\boxed{\(121\)}", r"\boxed{\text{121}}", r"\boxed{\text{ (121) }}", r"\boxed{\boxed{121}}",
    r"\boxed{5} no, \boxed{121}"]
WRONG = [
    r"\boxed{120}", r"\boxed{-121}", r"\boxed{0}", r"\boxed{121} no, \boxed{5}", r"\boxed{12,100}",
    r"\boxed{" + "1" * 21 + "}", r"\boxed{" + "9" * 1_000_000 + "}"]
UNPARSABLE = [
    "121", "", r"\boxed{}", r"\boxed{121", r"\boxed{121} \boxed{12", r"\boxed{35 + 86}", r"\boxed{35 + 86 = 121}",
    r"\boxed{1 2 1}", r"\boxed{120, 121}", r"\boxed{120 121 122}", r"\boxed{12,1}", r"\boxed{,121}", r"\boxed{121.5}",
    r"\boxed{1.21e2}", r"\boxed{0x79}", r"\boxed{--121}", r"\boxed{1_2_1}", "\\boxed{\u0661\u0662\u0661}",
    "\\boxed{12\u200b1}", "\\boxed{\uff11\uff12\uff11}", r"\boxed{the answer is what the grader has}",
    r"\boxed{9**9**9}", r"\boxed{(60)+(61)}", r"\boxed{$}", r"\boxed{?}", "\\boxed{\ud800}"]


@pytest.mark.parametrize(("outcome", "text"), [(outcome, text) for outcome, texts in (
    (Outcome.RIGHT, RIGHT), (Outcome.WRONG, WRONG), (Outcome.UNPARSABLE, UNPARSABLE)) for text in texts],
    ids=lambda value: ascii(value)[:30])
def test_t37_t38_truth_table_of_the_answer_121(task, outcome, text):
    verdict = task.verify(problem(121), text)
    assert (verdict.outcome, verdict.reward) == (outcome, float(outcome is Outcome.RIGHT))
    assert verdict.scorable
    assert verdict.answer == ("121" if outcome is Outcome.RIGHT else verdict.answer)
    assert 0 < len(verdict.reason) < 120


@pytest.mark.parametrize(("answer", "text"), [
    (-35, r"\boxed{-35}"), (-35, r"\boxed{- 35}"), (-35, "\\boxed{\N{MINUS SIGN}35}"), (-35, r"\boxed{(-35)}"),
    (0, r"\boxed{-0}"), (0, r"\boxed{0}"), (1234567, r"\boxed{1,234,567}"), (1234567, r"\boxed{1\,234\,567}"),
    (1234567, r"\boxed{1{,}234{,}567}"), (1234, r"\boxed{1,\!234}"), (-1234, r"\boxed{-1,234.0}")])
def test_signs_and_thousands(task, answer, text):
    assert task.verify(problem(answer), text).outcome is Outcome.RIGHT


@settings(deadline=None)  # a busy machine is no fault
@given(text=st.text(max_size=80), answer=st.integers(-10**7, 10**7))
def test_t33_never_raises_and_only_the_answer_is_right(text, answer):
    task = small()
    for candidate in (text, f"\\boxed{{{text}}}", f"{text}\\boxed{{{answer}}}"):
        verdict = task.verify(problem(answer), candidate)
        assert verdict.reward == float(verdict.outcome is Outcome.RIGHT)
        assert verdict.outcome is not Outcome.RIGHT or str(answer) == verdict.answer
    assert task.verify(problem(answer), f"{answer} \\boxed{{{answer + 1}}}").outcome is Outcome.WRONG


@pytest.mark.parametrize("inside", ["1", "1,234", "(", "{1}", "1.", "0", " ", "\\,", "-", "$", "\\text{"])
def test_t33_a_megabyte_in_the_box_takes_a_moment(inside):
    text = "\\boxed{" + inside * (1_000_000 // len(inside))
    start = time.perf_counter()
    for ending in ("}", "x}", ""):
        assert small().verify(problem(1), text + ending).outcome is not Outcome.RIGHT
    assert time.perf_counter() - start < 5


def test_settings_that_contradict_each_other():
    with pytest.raises(ValueError, match=r"task\.arithmetic\.digits_low=3 is more than digits_high=2"):
        Arithmetic(config.Arithmetic(digits_low=3, digits_high=2))


def test_a_verifier_process_needs_neither_jax_nor_the_generator(task):
    code = ("import sys; import rl_reasoning.tasks.arithmetic\n"
            "sys.stdout.write(str([name for name in ('jax', 'reasoning_gym') if name in sys.modules]))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]"
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(task.verify, problem(121), r"\boxed{121}").result().outcome is Outcome.RIGHT


def test_without_reasoning_gym_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(ImportError, match=r"pip install -e '\.\[lm\]'"):
        small().train_problems()
