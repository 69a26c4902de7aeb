"""The labelled truths of maths answers, and what each grader makes of them."""

import collections
import json
import pathlib

import pytest

from rl_reasoning.tasks.maths.graders import GRADERS, grade
from rl_reasoning.types import Outcome

TRUTHS = [json.loads(line) for line in (pathlib.Path(__file__).parent / "truth.jsonl").read_text().splitlines()]
CATEGORIES = {"fractions", "percent", "units", "sets", "intervals", "matrices", "text", "mixed numbers", "degrees",
              "ordered pairs", "equations"}


def mistakes(grader, rows):
    """(rows that are wrong and pass, rows that are right and fail)."""
    found = [(row, grade(grader, row["gold"], row["answer"]) is Outcome.RIGHT) for row in rows]
    return ([row for row, right in found if right and not row["right"]],
            [row for row, right in found if row["right"] and not right])


def test_t37_there_are_enough_truths_of_every_kind():
    counts = collections.Counter(row["category"] for row in TRUTHS)
    assert len({(row["gold"], row["answer"]) for row in TRUTHS}) == len(TRUTHS) >= 400
    assert min(counts[category] for category in CATEGORIES) >= 10
    assert sum(row["adversarial"] for row in TRUTHS) >= 100
    assert not any(row["right"] for row in TRUTHS if row["adversarial"])


def test_t37_the_default_grader_pays_nothing_false_and_misses_one_in_a_hundred_at_most():
    false_right, false_wrong = mistakes("math_verify", TRUTHS)
    assert not false_right
    assert len(false_wrong) <= 0.01 * sum(row["right"] for row in TRUTHS), false_wrong


@pytest.mark.parametrize(("grader", "most_false_right", "most_false_wrong"), [
    ("exact", 0, 235), ("is_equiv", 5, 260), ("math_equal", 55, 45)])
def test_t37_the_other_graders_are_as_lenient_and_as_strict_as_they_were_measured(
        grader, most_false_right, most_false_wrong):
    false_right, false_wrong = mistakes(grader, TRUTHS)
    assert len(false_right) <= most_false_right
    assert len(false_wrong) <= most_false_wrong


@pytest.mark.parametrize("grader", GRADERS)
def test_an_answer_is_equal_to_itself(grader):
    golds = sorted({row["gold"] for row in TRUTHS})
    assert not [gold for gold in golds if grade(grader, gold, gold) is not Outcome.RIGHT]


# What is said of the paper's own rules in its description, item by item.
@pytest.mark.parametrize(("grader", "gold", "answer", "right"), [
    ("math_equal", "0.25", "25", True), ("math_equal", "25", "0.25", True), ("math_equal", "50", "5", False),
    ("math_equal", "1000", "1000.05", True), ("math_equal", "1000", "1000.2", False),
    ("math_equal", "1/3", "0.33332", True), ("math_equal", "(1,2)", "[1,2]", True), ("math_equal", "A", "(A)", True),
    ("math_equal", "x=5", "5", True), ("math_equal", "2x+y=3", "y+2x=3", True), ("math_equal", "1,234", "1234", True),
    ("is_equiv", r"\frac{1}{2}", "0.5", True), ("is_equiv", r"\frac{1}{4}", "0.25", False),
    ("is_equiv", r"\frac12", "1/2", True), ("is_equiv", "x=5", "5", True), ("is_equiv", "abc=5", "5", False),
    ("is_equiv", r"5\text{ cm}", "5", True), ("is_equiv", r"5\%", "5", True), ("is_equiv", r"\$5", "5", True),
    ("is_equiv", r"\sqrt2", r"\sqrt{2}", True), ("is_equiv", r"\left(1,2\right)", "(1, 2)", True),
    ("is_equiv", "1000", "1000.0", False), ("is_equiv", ".5", "0.5", True), ("is_equiv", r"30^\circ", "30", True)])
def test_the_published_rules(grader, gold, answer, right):
    assert (grade(grader, gold, answer) is Outcome.RIGHT) == right
