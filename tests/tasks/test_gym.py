"""reasoning-gym behind one task: its own answers are right, others are not, and nothing of an answer is executed."""

import inspect
import json
import pathlib
import re

import pytest
from reasoning_gym.factory import DATASETS

from rl_reasoning import config
from rl_reasoning.tasks import verify
from rl_reasoning.tasks.gym import EVALUATED, Gym, refuse
from rl_reasoning.tasks.pool.wire import pack, unpack
from rl_reasoning.types import Outcome

DOZEN = ("basic_arithmetic", "chain_sum", "number_sorting", "caesar_cipher", "binary_matrix", "spiral_matrix",
         "polynomial_multiplication", "simple_integration", "syllogism", "family_relationships", "mini_sudoku",
         "prime_factorization", "n_queens", "countdown")


def make(name, **changes):
    return Gym(config.Gym(**{"name": name, "size": 3, **changes}))


def tagged(answer):
    return f"<think>Let me see.</think> <answer>{answer}</answer>"


@pytest.mark.parametrize("name", DOZEN)
def test_its_own_answer_is_right_a_wrong_one_is_not_and_an_empty_one_is_none(name):
    task = make(name)
    for problem in task.train_problems():
        sent = unpack(pack(problem))  # as it travels to a verifier's process
        right = verify(task, sent, tagged(problem.answer["answer"]))
        assert (right.outcome, right.reward) == (Outcome.RIGHT, 1.0)
        for text in ("zzz", "17 23", "[]", problem.answer["question"]):
            verdict = verify(task, sent, tagged(text))
            assert verdict.scorable
            assert verdict.outcome is not Outcome.RIGHT
            assert 0.0 <= verdict.reward < 0.5
        for text in ("", tagged(""), tagged("  "), problem.answer["answer"], "<answer>1",
                     "<answer>1</answer> <answer>2</answer>"):
            assert verify(task, sent, text).outcome is Outcome.UNPARSABLE
        assert json.loads(json.dumps(problem.metadata))["generator"] == name
        assert problem.prompt[-1].content.startswith(problem.answer["question"])


def test_t48_problems_are_distinct_repeat_and_never_meet_across_the_split():
    task = make("chain_sum", size=200)
    train = [problem.id for problem in task.train_problems()]
    held_out = [problem.id for problem in task.held_out_problems(50, seed=0)]
    assert len(set(train)) == 200
    assert len(set(held_out)) == 50
    assert not set(train) & set(held_out)
    assert train == [problem.id for problem in make("chain_sum", size=200).train_problems()]
    assert set(train) != {problem.id for problem in make("chain_sum", size=200, seed=1).train_problems()}
    assert held_out != [problem.id for problem in task.held_out_problems(50, seed=1)]


def test_when_problems_run_out_what_there_is_is_trained_on_and_too_few_held_out_are_an_error():
    options = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    task = make("chain_sum", size=1000, options=options)
    assert 100 < len(task.train_problems()) < 200  # of 200 sums of two digits
    with pytest.raises(ValueError, match=r"held-out problems and 100 were asked for: lower evaluation\.problems"):
        task.held_out_problems(100, seed=0)


def test_options_and_levels_change_the_problems():
    def terms(**changes):
        return {len(re.findall(r"[+-]", problem.answer["metadata"]["expression"])) + 1
                for problem in make("chain_sum", size=20, **changes).train_problems()}

    assert terms(options={"min_terms": 3, "max_terms": 3}) == {3}
    assert max(terms(level=3)) > max(terms(level=0))
    assert terms(level=3, options={"min_terms": 2, "max_terms": 2}) == {2}
    assert max(terms(level=999)) >= max(terms(level=3))


def test_a_problem_says_what_its_generator_says_of_it():
    facts = make("n_queens").train_problems()[0].metadata
    assert (facts["generator"], facts["n"]) == ("n_queens", 8)
    assert "num_removed" not in facts  # a range of the whole data set, and no fact of a problem
    assert isinstance(make("gsm_symbolic").train_problems()[0].metadata["difficulty"], float)


@pytest.mark.parametrize(("changes", "named"), [
    ({"name": "chain_sums"}, r"task\.gym\.name='chain_sums' is none of .* did you mean chain_sum"),
    ({"name": "chain_sum", "options": {"mn_terms": 2}}, r"task\.gym\.options=.*mn_terms.*its options are .*min_terms"),
    ({"name": "chain_sum", "options": {"min_terms": 9, "max_terms": 2}}, r"task\.gym\.options="),
    ({"name": "acre", "level": 1}, r"task\.gym\.level=1: acre has no curriculum"),
])
def test_t61_settings_that_cannot_be(changes, named):
    with pytest.raises(ValueError, match=named):
        make(**changes)


ATTACKS = (
    "__import__('os').system('true')", "exec('raise SystemExit')", "print(1)", "(lambda: 1)()", "open('/etc/passwd')",
    "sin('exec(\"1\")')", "x.__class__", "[x for x in (1,)]", "f'{print(1)}'", "sin(__import__('os'))", "(exec)('1')",
    "[print][0](1)", "1 if 1 else 2", "(y := 5)", "{1: 2}", "[*(1, 2)]", "1 and 2", "1 < 2", "-" * 2001 + "1")


@pytest.mark.parametrize("name", sorted(EVALUATED))
def test_t40_a_program_as_an_answer_is_never_evaluated(name, monkeypatch):
    task = make(name, size=1)
    (problem,) = task.train_problems()
    monkeypatch.setattr(task, "_scorer", None)  # to be asked would be a crash
    for attack in ATTACKS:
        assert verify(task, problem, tagged(attack)).outcome is Outcome.UNPARSABLE, attack


def test_t40_an_answer_does_not_name_the_variables_of_a_scorer():
    assert refuse("oracle_answer", parsed_by_sympy=False)
    assert refuse("oracle_answer", parsed_by_sympy=True) is None  # there it is a symbol


def test_t40_no_other_scorer_evaluates_an_answer():
    """A new version of the package that does so elsewhere fails here."""
    evaluates = re.compile(r"\b(?:eval|exec|parse_expr|sympify|simplify|parse_latex)\((?:answer|user_answer|text|s)\b")
    found = {name for name, (dataset, _) in DATASETS.items()
             if evaluates.search(pathlib.Path(inspect.getfile(dataset)).read_text())}
    assert found == EVALUATED


@pytest.mark.parametrize(("answer", "by_sympy"), [
    ("3*x**2 - 2*x + C", True), ("sin(x)/2 + exp(-x) + log(x) + C", True), ("(1 + 2)*3 - 4/5", True),
    ("[[0, 1], [1, -1]]", False), ("['A', 'B']", False), ("1 2 3\n4 5 6", False)])
def test_plain_answers_are_evaluated(answer, by_sympy):
    assert refuse(answer, by_sympy) is None


def test_t36_a_scorer_that_fails_on_an_answer_alone_is_not_a_crash():
    """prime_factorization's scorer raises on words; the same scorer, broken, is a crash."""
    task = make("prime_factorization", size=1)
    (problem,) = task.train_problems()
    assert verify(task, problem, tagged("two times three")).outcome is Outcome.UNPARSABLE
    problem.answer["metadata"].clear()
    problem.answer["answer"] = None
    assert verify(task, problem, tagged("two times three")).outcome is Outcome.CRASH


def test_scores_between_are_partial_and_others_a_crash(monkeypatch):
    task = make("chain_sum", size=1)
    (problem,) = task.train_problems()
    for score, outcome in ((0.25, Outcome.PARTIAL), (1.5, Outcome.CRASH), (-0.1, Outcome.CRASH),
                           (float("nan"), Outcome.CRASH)):
        monkeypatch.setattr(task._scorer, "score_answer", lambda answer, entry, score=score: score)
        assert verify(task, problem, tagged("1")).outcome is outcome
