"""Tables and the sentence: golden text from known counts."""

import pytest

from rl_reasoning.reporting.results import collect
from rl_reasoning.reporting.table import WIDTH, evaluation_table, key_ks, percent, points, summary_sentence


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
