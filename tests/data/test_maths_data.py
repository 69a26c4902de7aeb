"""What is found in a run's data before its first step: overlaps, lengths, and the report of both."""

import json
import os
import pathlib

import pytest
from maths_files import question, sums, write_lines

from rl_reasoning import config
from rl_reasoning.data.lengths import keep_short
from rl_reasoning.data.maths import load_maths
from rl_reasoning.data.overlap import WORDS, find_overlap
from rl_reasoning.types import Problem

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"


def asked(*texts):
    return [Problem(f"{i}", text, "1", "math", {"question": text}) for i, text in enumerate(texts)]


def tokens(problem):
    return len(problem.prompt[-1].content.split())


@pytest.mark.parametrize(("train", "exact", "partial"), [
    (LONG, 1, 0), (LONG.upper().replace(" ", ",  "), 1, 0), (f"What is {LONG}?", 0, 1),
    (" ".join(LONG.split()[:WORDS]), 0, 1), (" ".join(LONG.split()[:WORDS - 1]), 0, 0),
    (LONG.replace("eight", "8"), 0, 0), ("", 0, 0)])
def test_t48_overlap_is_the_same_text_or_thirteen_words(train, exact, partial):
    found = find_overlap(asked(train), asked("another question", LONG))
    assert (len(found.exact), len(found.partial)) == (exact, partial)
    assert bool(found) == bool(exact + partial)


@pytest.mark.parametrize(("limit", "kept"), [(100, 4), (3, 2), (2, 1), (1, 1)])
def test_t30_long_prompts_are_dropped_with_a_count_and_never_cut(limit, kept):
    sizes = {"a": 1, "a b c": 3, "a b c d e": 5, LONG: 16, "": 0}
    problems, lengths = keep_short(asked(*sizes), lambda problem: len(problem.prompt.split()), limit)
    assert [p.prompt for p in problems] == [text for text, size in sizes.items() if 1 <= size <= limit]
    assert len(problems) == kept
    assert lengths.dropped == tuple(str(i) for i, size in enumerate(sizes.values()) if not 1 <= size <= limit)
    assert f"{5 - kept} dropped (longer than {limit})" in lengths.lines()[0]


def test_the_histogram_counts_every_prompt_once():
    sizes = [1, 2, 3, 4, 5, 8, 9, 16]
    _, lengths = keep_short(asked(*map(str, sizes)), lambda problem: int(problem.prompt), 100)
    assert lengths.edges == (0, 2, 4, 8, 16)
    assert lengths.counts == (2, 2, 2, 2)
    assert lengths.longest == 16
    assert keep_short([], tokens, 5)[1].counts == (0,)


@pytest.fixture(name="sources")
def overlapping_sources(tmp_path):
    """Ten to train on, of which one is held out too and one shares words with a held-out one; and a bad row."""
    shared = [{"problem": f"{LONG} {end}", "answer": "1"} for end in ("and more?", "or less?")]
    train = write_lines(tmp_path / "train.jsonl", [*sums(range(8)), "{", shared[0], sums(range(100, 101))[0]])
    return train, write_lines(tmp_path / "test.jsonl", [*sums(range(100, 103)), shared[1]])


def load(sources, **settings):
    train, held_out = sources
    return load_maths(config.Math(train=(train,), held_out=(held_out,), **settings), tokens)


def test_t48_overlap_is_refused_unless_allowed(sources):
    with pytest.raises(ValueError, match=r"1 with the same text, 1 more .*: set task\.math\.overlap"):
        load(sources)
    assert len(load(sources, overlap="allow")[0].train_problems()) == 10
    assert {p.metadata["question"] for p in load(sources, overlap="drop")[0].train_problems()} == set(map(question,
    range(8)))


def test_t48_the_report_says_it_all(sources):
    task, report = load(sources, overlap="drop", prompt_tokens=29)
    told = "\n".join(report.lines)
    assert "10 of 11 rows used, 1 bad, 0 repeated" in told
    assert "train.jsonl:9: broken JSON" in told
    assert "overlap of 10 training and 4 held-out problems: 1 with the same text, 1 more" in told
    assert "held-out prompt tokens: longest 30, 1 dropped (longer than 29)" in told
    record = json.loads(json.dumps(report.record))
    assert len(record["overlap"]["exact"]) == len(record["overlap"]["partial"]) == 1
    assert len(record["held_out"]["dropped"]) == 1
    assert len(task.held_out_problems(3, 0)) == 3


def test_weights_go_with_the_sources(tmp_path):
    first = write_lines(tmp_path / "a.jsonl", sums(range(5)))
    second = write_lines(tmp_path / "b.jsonl", sums(range(5, 9)))
    settings = config.Math(train=(first, second), held_out=(), weights=("3", ".5"))
    assert load_maths(settings, tokens)[1].weights == {first: 3.0, second: 0.5}


@pytest.mark.parametrize(("name", "rows"), [("aime2025/test.parquet", 30), ("amc23/test.parquet", 40),
    ("math500.jsonl", 500)])
def test_published_sets_are_read_whole(name, rows):
    if folder := os.environ.get("RL_REASONING_DATA"):
        source = str(pathlib.Path(folder) / name)
        task, report = load_maths(config.Math(train=(), held_out=(source,)), tokens)
        assert len(task.held_out_problems(rows, 0)) == rows
        assert not report.record["held_out"]["bad"]
