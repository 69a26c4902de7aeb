"""The last \\boxed{...} of a text that nobody vouches for."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_reasoning.tasks.boxed import last_boxed


@pytest.mark.parametrize(("text", "content"), [
    (r"\boxed{121}", "121"),
    (r"so \boxed{ 1 } and \boxed{2}.", "2"),
    (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    (r"\boxed{}", ""),
    (r"\boxed {7}", "7"),
    ("\\boxed\n{7}", "7"),
    # nested: the outer box is the answer
    (r"\boxed{\boxed{5}}", r"\boxed{5}"),
    (r"\boxed{\frac{\boxed{1}}{2}}", r"\frac{\boxed{1}}{2}"),
    # escaped braces are no braces
    (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
    (r"\boxed{a\}b}", r"a\}b"),
    (r"\boxed{1\\}", r"1\\"),
    # stray braces and boxes
    (r"}} \boxed{3} }", "3"),
    (r"{{ \boxed{3}", "3"),
    (r"write \boxed{ before \boxed{3}", "3"),
    # none, or cut off
    ("121", None),
    (r"\boxed", None),
    (r"\boxed 5", None),
    (r"\boxed{12", None),
    (r"\boxed{1} \boxed{2", None),
    (r"\boxed{1{2}", None),
    (r"\\boxed{5}", None),
    (r"\boxedanswer{5}", None),
    ("", None),
])
def test_truth_table(text, content):
    assert last_boxed(text) == content


@settings(deadline=None)  # a busy machine is no fault
@given(text=st.text("\\{}boxed 1\n", max_size=60), answer=st.text("0123456789, -", max_size=9))
def test_a_closed_box_at_the_end_is_found_after_anything_balanced(text, answer):
    last_boxed(text)
    before = text.replace("{", "").replace("}", "").replace("\\", "")
    assert last_boxed(f"{before}\\boxed{{{answer}}}") == answer


@pytest.mark.parametrize("part", ["\\boxed{", "{", "}", "\\boxed", "\\boxed   ", "\\", "\\boxed{1}", "\\boxed{{", " "])
def test_t33_a_megabyte_takes_a_moment(part):
    text = part * (1_000_000 // len(part))
    start = time.perf_counter()
    last_boxed(text)
    last_boxed("\\boxed{" + text)
    assert time.perf_counter() - start < 3
