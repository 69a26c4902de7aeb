"""scripts/score.py: numbers of a file of answers, ours and RLVR-Decomposed's, and judging them again."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest

from rl_reasoning.evaluation.pass_at_k import pass_at_k

ROOT = pathlib.Path(__file__).parents[2]
LABELS = [[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 0]]


@pytest.fixture(scope="module")
def score():
    spec = importlib.util.spec_from_file_location("score_under_test", ROOT / "scripts" / "score.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def theirs(tmp_path):
    """Answers as eval.py writes them: 3 questions, 4 answers; one right answer is 300 where 3 is wanted."""
    path = tmp_path / "theirs.jsonl"
    with path.open("w") as file:
        for question, labels in enumerate(LABELS):
            for generation, label in enumerate(labels):
                answer = "300" if (question, generation) == (0, 3) else "3" if label else "4"
                file.write(json.dumps({
                    "prompt": "p", "question": "What is it?", "answer": r"So it is \boxed{3}.", "question_id": question,
                    "generation_id": generation, "response": rf"I say \boxed{{{answer}}}.", "label": bool(label),
                    "gold_answer": "3", "pred_answer": answer}) + "\n")
    return path


def shown(capsys):
    """{k: Pass@k} of the printed table."""
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    return {row[0]: row[1] for row in rows if row[0].isdigit() and len(row) > 3 and row[2].startswith("[")}


def expected(labels):
    values = 100 * pass_at_k(np.sum(labels, axis=1), np.full(3, 4), (1, 2, 4)).mean(axis=0)
    return {k: f"{value:.2f}" for k, value in zip("124", values, strict=True)}


def test_their_labels_are_counted_by_their_estimator(score, theirs, capsys):
    assert score([str(theirs)]) == 0
    assert shown(capsys) == expected(LABELS)


@pytest.mark.parametrize(("grader", "changed"), [("exact", 0), ("math_equal", 1)])
def test_judging_their_answers_again(grader, changed, score, theirs, capsys, tmp_path):
    """300 is 3 as a percentage to the paper's rules, and to no other."""
    assert score([str(theirs), f"--grader={grader}", f"--out={tmp_path / 'judged.jsonl'}"]) == 0
    labels = [[1, 0, 0, changed], *LABELS[1:]]
    assert shown(capsys) == expected(labels)
    assert len((tmp_path / "judged.jsonl").read_text().splitlines()) == 12


def test_the_first_n_of_each(score, theirs, capsys, tmp_path):
    assert score([str(theirs), "--n=2", f"--csv={tmp_path / 'curve.csv'}"]) == 0
    assert shown(capsys)["1"] == "50.00"
    assert (tmp_path / "curve.csv").read_text().splitlines()[0] == "k,mean,low,high"
    assert score([str(theirs), "--n=5"]) == 1
    assert "has 4 answers and 5 were asked for" in capsys.readouterr().err


@pytest.mark.parametrize(("line", "message"), [
    ("", "holds no answer"), ('{"a": 1}', "its lines have the fields a"),
    ('{"problem": "x", "sample": 0, "outcome": "right", "reward": 1, "text": "y"}', "is in no run folder")])
def test_other_files_are_named(line, message, score, tmp_path, capsys):
    (tmp_path / "x.jsonl").write_text(line + "\n" if line else "")
    assert score([str(tmp_path / "x.jsonl"), "--config.seed=1"]) == 1
    assert message in capsys.readouterr().err


def test_our_answers_are_judged_again_by_their_own_task(score, tmp_path, capsys):
    """An evaluation of three sums whose verdicts were damaged: its task puts them right without a model."""
    from rl_reasoning.config import Evaluation, Experiment, Task
    from rl_reasoning.reporting.run_folder import RunFolder
    from rl_reasoning.tasks.arithmetic import Arithmetic

    experiment = Experiment(task=Task(kind="arithmetic"), evaluation=Evaluation(problems=3))
    problems = Arithmetic(experiment.task.arithmetic).held_out_problems(3, seed=0)
    folder = RunFolder(tmp_path / "run")
    folder.write_config(experiment, ["x"])
    path = folder.samples_path("base")
    path.write_text("".join(json.dumps({
        "problem": problem.id, "sample": i, "text": rf"\boxed{{{problem.answer + i}}}", "outcome": "wrong",
        "reward": 0.0, "answer": None, "length": 3, "logprob": -1.0, "stop_reason": "eos", "reason": ""}) + "\n"
        for problem in problems for i in range(2)))
    assert score([str(path)]) == 0
    assert shown(capsys)["1"] == "0.00"
    assert score([str(path), "--config.evaluation.problems=3"]) == 0
    assert shown(capsys)["1"] == "50.00"
    assert score([str(path), "--grader=exact"]) == 1
    assert "a grader is for problems of mathematics" in capsys.readouterr().err
