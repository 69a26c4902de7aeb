"""The code task: what counts as the program, what a test sees, what is paid, and which rows are problems."""

import json
import math
import pathlib
import subprocess
import sys

import pytest

from rl_reasoning import config
from rl_reasoning.tasks.code import checks
from rl_reasoning.tasks.code.answers import program_of
from rl_reasoning.tasks.code.problems import read_problems
from rl_reasoning.tasks.code.sandbox import SandboxError, Sandboxes
from rl_reasoning.tasks.code.task import Code
from rl_reasoning.types import Outcome, Problem

EXAMPLES = pathlib.Path(__file__).parent.parent.parent / "experiments" / "configs" / "small_programs.jsonl"


def task(**changes):
    return Code(config.Code(**({"seconds": 2.0} | changes)), "namespace")


def fenced(program):
    return f"```python\n{program}\n```"


def outputs(*pairs):
    return Problem("p", "", {"tests": [{"input": a, "output": b} for a, b in pairs]}, "code")


def assertions(*texts, setup="", names=("f",)):
    return Problem("p", "", {"assertions": list(texts), "setup": setup, "names": list(names)}, "code")


@pytest.mark.parametrize(("text", "program"), [
    ("```python\na\n```", "a\n"),
    ("```\na\n```", "a\n"),
    ("``` Python3 \na\n```\nbye", "a\n"),
    ("```python\na\n```\n```python\nb\n```", "b\n"),
    ("```python\na\n```\n```text\nb\n```", "a\n"),
    ("<think>```python\na\n```</think>```python\nb\n```", "b\n"),
    ("<think>x</think>\n  ```py\n  a\n  ```", "  a\n"),
    ("<think>```python\na\n```", None),
    ("<think>```python\na\n```</think>", None),
    ("<think></think><think>```python\na\n```", None),
    ("```python\na", None), ("a", None), ("", None), ("```python\n\n```", None), ("```" * 10**5, None),
])
def test_the_last_closed_block_after_the_thoughts_is_the_program(text, program):
    assert program_of(text) == program


def test_every_reference_solution_of_the_examples_is_right_and_the_next_one_is_not():
    """40 true positives; a solution of another problem, tried on every fourth, is never paid in full."""
    problems, judge = read_problems(EXAMPLES, strict=True).problems, task(reward="rate")
    assert len(problems) == 40
    for problem, other in zip(problems, [*problems[1:], problems[0]], strict=True):
        verdict = judge.verify(problem, fenced(problem.metadata["solution"]))
        assert verdict.outcome == Outcome.RIGHT, (problem.id, verdict.reason)
        if problem in problems[::4]:
            assert judge.verify(problem, fenced(other.metadata["solution"])).reward < 1, problem.id


@pytest.mark.parametrize(("reward", "none", "half", "all_of_them"), [
    ("binary", 0.0, 0.0, 1.0), ("rate", 0.0, 0.5, 1.0), ("klear", -1.0, 0.0, 1.0)])
def test_rewards_by_name(reward, none, half, all_of_them):
    """Closed forms of Klear-Reasoner's 2 * rate - 1 and of the two others on 0, 2 and 4 of 4 tests."""
    problem = outputs(*((str(i), str(i)) for i in range(4)))
    programs = ("print('x')", "n = int(input())\nprint(n if n < 2 else 'x')", "print(input())")
    verdicts = [task(reward=reward).verify(problem, fenced(program)) for program in programs]
    assert [v.reward for v in verdicts] == [none, half, all_of_them]
    middle = Outcome.WRONG if reward == "binary" else Outcome.PARTIAL
    assert [v.outcome for v in verdicts] == [Outcome.WRONG, middle, Outcome.RIGHT]
    assert task(reward=reward).verify(problem, "no block").outcome == Outcome.UNPARSABLE


def test_at_most_sixteen_tests_are_drawn_and_the_draw_derives_from_the_problem():
    """The program passes on even inputs alone, so that the share tells which tests were drawn."""
    problem = outputs(*((str(i), str(i)) for i in range(100)))
    program = fenced("n = int(input())\nprint(n if n % 2 == 0 else 'x')")
    first, again = (task(reward="rate").verify(problem, program) for _ in range(2))
    assert first == again
    assert "of 16 tests" in first.reason
    others = [Problem(f"p{i}", "", problem.answer, "code") for i in range(5)]
    shares = {task(reward="rate").verify(other, program).reward for other in others}
    assert len(shares) > 1


@pytest.mark.parametrize(("printed", "expected", "same"), [
    ("1 2\n3", "1 2\n3\n\n", True), ("1  2 ", "1 2", True), ("1\n2", "1 2", False), ("1", "1.0", True),
    ("0.3333333", "0.33333333", True), ("0.3334", "0.3333", False), ("1.0", "1", False), ("1e400", "1.0", False),
    ("nan", "1.0", False), ("9" * 400, "1.0", False), ("", "", True), ("Yes", "YES", False), ("1_0", "10.0", False),
    ("1000000.5", "1000000.0", True), ("1000002", "1000000.0", False)])
def test_outputs_are_compared_word_by_word(printed, expected, same):
    assert checks.same_output(printed, expected) == same


@pytest.mark.parametrize(("program", "test", "passes"), [
    ("def f(x): return x + 1", "assert f(1) == 2", True),
    ("def f(x): return x", "assert f(1) == 2", False),
    ("def f(x): x.sort()", "a = [3, 1]\nf(a)\nassert a == [1, 3]", True),
    ("def f(d, s): d['k'] = 1; s.clear()", "d, s = {}, {1}\nf(d, s)\nassert d == {'k': 1} and s == set()", True),
    ("def f(x): return x, {x: [b'z', None, .5, 2j, {x}]}", "assert f(1) == (1, {1: [b'z', None, .5, 2j, {1}]})", True),
    ("def f(x): return [x]", "assert f(1) == (1,)", False),
    ("def f(n): yield from range(n)", "assert list(f(3)) == [0, 1, 2]", True),
    ("def f(n): yield from range(n)", "assert f(3) == [0, 1, 2]", False),
    ("def f(n): return range(n)", "assert f(3) == range(3)", True),
    ("def f(x): raise ValueError(x)", "try:\n    f(1)\nexcept ValueError:\n    pass\nelse:\n    assert False", True),
    ("def f(x): return 0.1 + 0.2", "assert abs(f(1) - 0.3) < 1e-9", True),
    ("def f(x): return x", "def check(g):\n    for i in range(9):\n        assert g(i) == i\ncheck(f)", True),
    ("def f(x, *, y): return x - y", "assert f(3, y=1) == 2", True),
    ("f = 3", "assert f(1) == 1", False),
    ("import collections\ndef f(x): return collections.Counter(x)", "assert f('aab') == {'a': 2, 'b': 1}", True),
    ("def f(x): return 10 ** 30", "assert f(1) == 10 ** 30", True),
    ("print('noise')\nimport sys\nsys.stdout.write('x' * 10**6)\nf = lambda x: x", "assert f(1) == 1", True),
    ("f = lambda x: x\nif __name__ == '__main__':\n    raise SystemExit", "assert f(1) == 1", True),
])
def test_assertions_see_plain_values_of_a_program_that_runs_elsewhere(program, test, passes):
    verdict = task().verify(assertions(test), fenced(program))
    assert verdict.outcome == (Outcome.RIGHT if passes else Outcome.WRONG), verdict.reason


def test_setup_comes_before_each_assertion():
    problem = assertions("assert math.isclose(f(2), ROOT)", setup="import math\nROOT = math.sqrt(2)")
    assert task().verify(problem, fenced("f = lambda x: x ** 0.5")).outcome == Outcome.RIGHT


@pytest.mark.parametrize("test", [
    "import sys\nf(1)\nsys.exit(0)\nassert True", "assert f(lambda x: x) == 1", "assert f(1)\nwhile True: pass"])
def test_a_test_that_cannot_be_run_is_no_verdict_on_the_program(test):
    """It exits, it passes on what cannot be passed on, it never ends: unscorable, never wrong."""
    verdict = task(seconds=1.0).verify(assertions(test), fenced("f = lambda x: 1"))
    assert verdict.outcome == Outcome.CRASH


def test_a_sandbox_that_cannot_be_had_is_no_verdict(monkeypatch):
    def broken(*_):
        raise SandboxError("no process can be started")

    monkeypatch.setattr(Sandboxes, "open", broken)
    verdict = task().verify(outputs(("1", "1")), fenced("print(input())"))
    assert verdict.outcome == Outcome.CRASH
    assert math.isnan(verdict.reward)


def test_a_helper_that_was_killed_is_replaced():
    judge = task()
    for _ in range(2):
        assert judge.verify(outputs(("1", "1")), fenced("print(input())")).outcome == Outcome.RIGHT
        judge._sandboxes._control.close()


GOOD = {"id": "a", "prompt": "add", "tests": [{"input": "1", "output": "1"}], "level": 3}


@pytest.mark.parametrize("row", [
    "{", "[]", "null", '"x"', {**GOOD, "id": ""}, {**GOOD, "id": None}, {**GOOD, "prompt": " "}, {**GOOD, "tests": []},
    {**GOOD, "tests": None}, {**GOOD, "tests": [{"input": "1"}]}, {**GOOD, "tests": [{"input": 1, "output": "1"}]},
    {**GOOD, "tests": [{"input": "1", "output": " \n"}]}, {**GOOD, "assertions": ["assert f(1)"]},
    {"id": "a", "prompt": "b"}, {"id": "a", "prompt": "b", "assertions": ["f(1)"]},
    {"id": "a", "prompt": "b", "assertions": ["assert 1 == 1"]},
    {"id": "a", "prompt": "b", "assertions": ["assert f("]},
    {"id": "a", "prompt": "b", "assertions": ["assert " + "(" * 300 + "f()" + ")" * 300]}, {**GOOD, "id": "good"},
    "[" * 100_000,
])
def test_t45_a_bad_row_is_skipped_and_named_by_its_line(row, tmp_path):
    path = tmp_path / "problems.jsonl"
    bad = row if isinstance(row, str) else json.dumps(row)
    path.write_text(f"{json.dumps({**GOOD, 'id': 'good'})}\n\n{bad}\n{json.dumps({**GOOD, 'id': 'last'})}\n")
    found = read_problems(path, strict=False)
    assert [problem.id for problem in found.problems] == ["good", "last"]
    assert [line for line, _ in found.skipped] == [3]
    assert dict(found.problems[0].metadata) == {"level": 3}
    with pytest.raises(ValueError, match="line 3: "):
        read_problems(path, strict=True)


def test_a_file_without_problems_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"task\.code\.path='nowhere\.jsonl'"):
        read_problems(pathlib.Path("nowhere.jsonl"), strict=False)
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="no problem"):
        read_problems(tmp_path / "empty.jsonl", strict=False)


def test_problems_are_split_by_their_ids():
    examples = task(path=str(EXAMPLES), held_out=0.3)
    held_out = examples.held_out_problems(5, seed=0)
    assert not {p.id for p in held_out} & {p.id for p in examples.train_problems()}
    with pytest.raises(ValueError, match="held-out problems"):
        examples.held_out_problems(99, seed=0)


def test_the_scripts_of_the_jail_need_the_standard_library_alone():
    """They run under -S: what they import must be there without any installed package."""
    folder = pathlib.Path(checks.__file__).parent
    for name in ("jail.py", "guest.py"):
        code = f"import runpy; runpy.run_path({str(folder / name)!r}, run_name='imported')"
        subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, timeout=60)
