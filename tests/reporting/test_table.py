"""Tables and the sentence: golden text from known counts."""

import numpy as np
import pytest

from rl_reasoning.evaluation.pass_at_k import bootstrap_interval
from rl_reasoning.reporting.report import write_report
from rl_reasoning.reporting.results import by_group, collect
from rl_reasoning.reporting.table import (
    WIDTH,
    breakdown_table,
    evaluation_table,
    key_ks,
    percent,
    points,
    summary_sentence,
)


def test_plain_table(make_run):
    text = evaluation_table(collect([make_run()]))
    lines = text.splitlines()
    assert lines[0] == "Pass@k, mean over 6 problems in percent"
    assert lines[1].split() == ["k", "1", "2", "4", "8", "entropy", "length"]
    assert lines[3].split() == ["Base", "43.8", "57.7", "71.2", "83.3", "0.300", "5.0"]
    assert lines[4].startswith("W-REINFORCE, step 10")
    assert "+16.7 [" in lines[-1]
    assert lines[-1].endswith("unclear")
    assert lines[-2].split()[0] == "Base"
    assert lines[-2].endswith("-")


def test_table_fits_the_width_whatever_the_names(make_run):
    folders = [make_run(algorithm="an_algorithm_with_a_very_long_name_indeed", rl={"steps": steps}) for steps in (1, 2)]
    text = evaluation_table(collect(folders))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "…" in text


def test_markdown_table(make_run):
    lines = evaluation_table(collect([make_run()]), markdown=True).splitlines()
    assert lines[2] == "| k | 1 | 2 | 4 | 8 | entropy | length |"
    assert lines[3] == "| :-- | --: | --: | --: | --: | --: | --: |"
    assert lines[4] == "| Base | 43.8 | 57.7 | 71.2 | 83.3 | 0.300 | 5.0 |"


@pytest.fixture(name="by_degree")
def results_by_degree(make_run):
    """One run whose problems, of which the first has no verdict at all, have degrees; and its results."""
    folder = make_run()
    for record in folder.evaluations():
        facts = {"facts": {"degree": ["2", "10", "2", "2", "none", "10"]}}
        counts = {"right": [0, *record["right"][1:]], "total": [0, *record["total"][1:]]}
        folder.write_evaluation({**record, **facts, **counts}, [])
    return folder, collect([folder])


def test_accuracy_by_a_fact_of_the_problems(by_degree):
    """The base answers 1, 2, 4, 6 and 8 of 8 to the problems of degrees 10, 2, 2, none and 10."""
    _, (base, final) = by_degree
    found = by_group(base, "degree")
    assert list(found) == ["2", "10", "none"]
    low, high = (float(end[0]) for end in bootstrap_interval(np.array([[2 / 8], [4 / 8]]), 1000, seed=0))
    assert found["2"] == (2, 0.375, low, high)
    assert [row[:2] for row in found.values()] == [(2, 0.375), (2, 0.5625), (1, 0.75)]
    lines = breakdown_table([base, final]).splitlines()
    assert lines[0] == "Pass@1 by degree in percent, with 95 % intervals over problems"
    assert " ".join(lines[1].split()) == "degree 2 (2 problems) 10 (2 problems) none (1 problems)"
    assert lines[3].split()[:3] == ["Base", "37.5", f"[{percent(low)},"]


def test_the_report_shows_accuracy_by_a_fact_only_where_one_is_named(by_degree, make_run, tmp_path):
    folder, _ = by_degree
    assert "Pass@1 by degree" in write_report(tmp_path / "with.html", [folder], "x").read_text()
    plain = make_run(seed=3)
    assert breakdown_table(collect([plain])) == ""
    assert "Pass@1 by" not in write_report(tmp_path / "without.html", [plain], "x").read_text()


def test_sentence_gives_both_ends_and_their_intervals(make_run):
    base, final = collect([make_run()])
    sentence = summary_sentence(base, final, "runs/x/report.html")
    assert sentence.startswith("W-REINFORCE, 10 steps: Pass@1 43.8 -> 60.4 (+16.7, 95 % interval +")
    assert "Pass@8 83.3 -> 100.0 (no clear change: +16.7, 95 % interval +0.0 to +" in sentence
    assert sentence.endswith("; report: runs/x/report.html")


def test_sentence_says_no_clear_change_of_a_policy_and_itself(make_run):
    base, _ = collect([make_run()])
    assert "(no clear change: +0.0, 95 % interval +0.0 to +0.0)" in summary_sentence(base, base)


def test_sentence_says_when_it_went_down(make_run):
    base, final = collect([make_run(evaluations={10: (0, 0, 0, 1, 2, 3)})])
    assert "Pass@1 43.8 -> 12.5 (-31.2, 95 % interval -" in summary_sentence(base, final)


def test_sentence_compares_no_different_problems(make_run):
    base, final = collect([make_run(evaluations={10: (1, 2, 3)})])
    sentence = summary_sentence(base, final)
    assert "different problems: not comparable" in sentence
    assert "interval" not in sentence


def test_sentence_without_a_base_says_where_a_run_is(make_run):
    _, final = collect([make_run()])
    assert summary_sentence(None, final) == "W-REINFORCE, 10 steps: Pass@1 60.4, Pass@8 100.0"


def test_sentence_counts_seeds(make_run):
    results = collect([make_run(seed=0), make_run(seed=1)])
    assert summary_sentence(results[0], results[1]).startswith("W-REINFORCE, 10 steps, 2 seeds: ")


@pytest.mark.parametrize(("share", "text"), [(0.06, "+6.0"), (-0.0001, "+0.0"), (0.0, "+0.0"), (-0.123, "-12.3")])
def test_points(share, text):
    assert points(share) == text


def test_percent_and_key_ks():
    assert percent(0.8333) == "83.3"
    assert key_ks((1, 2, 4, 8, 16, 32, 64, 128, 256)) == [1, 16, 256]
    assert key_ks((1, 2, 4), count=2) == [1, 4]
    assert key_ks((1,)) == [1]
