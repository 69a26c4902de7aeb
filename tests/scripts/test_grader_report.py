"""The graders' report: its matrix, and the published problem sets where they are."""

import importlib.util
import json
import os
import pathlib
import re

import pytest

from rl_reasoning.types import Outcome

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(name="report", scope="module")
def report_module():
    spec = importlib.util.spec_from_file_location("grader_report", ROOT / "scripts" / "grader_report.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_t37_the_matrix_counts_every_truth_once(report):
    line, *mistakes = report.confusion("exact")
    right, missed, wrong, paid, adversarial = map(int, line.split()[1:])
    assert right + missed + wrong + paid == len(report.TRUTHS.read_text().splitlines())
    assert (paid, adversarial) == (0, 0)
    assert sum(int(mistake.split()[0]) for mistake in mistakes) == missed


def test_a_set_is_checked_against_itself_and_against_others(report, tmp_path):
    rows = [{"problem": f"What is {i} + {i}?", "answer": 2 * i or None} for i in range(9)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    told = "\n".join(report.self_check("exact", str(tmp_path / "rows.jsonl"), 10))
    assert "8 gold answers, 1 rows without one" in told
    assert "solutions against themselves: right 8 (100.00 %)" in told
    assert "against another problem's answer: wrong 24 (100.00 %)" in told


def test_odd_pairs_are_shown_with_a_reason(report):
    told = list(report.tally("pairs", [("30", r"30^\circ", Outcome.RIGHT), ("1", "2", Outcome.WRONG)], Outcome.WRONG))
    assert told[0] == "  pairs: right 1 (50.00 %), wrong 1 (50.00 %)"
    assert "1 a degree, percent or currency sign on one side" in told[1]


def check_published(report, sample):
    """Gold solutions are right, and another problem's answer is right only where it has the same value."""
    for source in report.SETS:
        told = "\n".join(report.self_check("math_verify", source, sample))
        assert re.search(r"solutions against themselves: right \d+ \(100\.00 %\)", told), told
        share = re.search(r"against another problem's answer:.*right \d+ \((.*?) %\)", told)
        assert share is None or float(share[1]) < 1.0, told
        assert "crash" not in told


def test_t37_published_gold_solutions_are_right(report):
    if "RL_REASONING_DATA" in os.environ:
        check_published(report, 40)


@pytest.mark.slow
def test_t37_all_published_gold_solutions_are_right(report):
    if "RL_REASONING_DATA" in os.environ:
        check_published(report, 10**9)


def test_the_report_runs_where_no_sets_are(report, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RL_REASONING_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert report.main(["--grader=exact", "--sample=5"]) == 0
    told = capsys.readouterr().out
    assert "false right, adversarial" in told
    assert told.count("left out: there is no file") == len(report.SETS)


def test_speed_is_printed_for_every_way_of_asking(report):
    told = list(report.speed([("1", "1"), ("1/2", "0.5"), ("x", "y")]))
    assert told[0].startswith("3 pairs")
    rates = [float(re.search(r": ([0-9,]+) verdicts a second", line)[1].replace(",", "")) for line in told[1:]]
    assert len(rates) == 4
    assert min(rates) > 0
