"""Problem sets of every layout are read; what cannot be used is counted by file and line, or refused."""

import os
import subprocess
import sys

import pytest
from maths_files import question, rl_row, sums, write_lines, write_parquet

from rl_reasoning import config
from rl_reasoning.data.layouts import UnusableRow, answers_of, facts_of, question_of
from rl_reasoning.data.problems import read_problems
from rl_reasoning.data.sources import find_file, read_rows


def read(*sources, **settings):
    return read_problems(sources, config.Math(**settings))


@pytest.mark.parametrize(("record", "answers"), [
    ({"answer": "3"}, ("3",)), ({"answer": 3}, ("3",)), ({"answer": 3.0}, ("3",)), ({"answer": 0.5}, ("0.5",)),
    ({"final_answer": ["3"]}, ("3",)), ({"answers": ["3", "4"]}, ("3", "4")), ({"answers": ["3", "3"]}, ("3",)),
    ({"answer": "2 + 1 = 3\n#### 3"}, ("3",)), ({"answer": "#### 1,200"}, ("1,200",)), ({"answer": r"so \boxed{3}"},
    ("3",)),
    ({"solution": r"\boxed{1} then \boxed{3}"}, ("3",)), ({"solution": r"\boxed{3}", "answer": "see above"}, ("3",)),
    ({"solution": "no box", "answer": "3"}, ("3",)), ({"expected_answer": r"3\text{ cm}"}, (r"3\text{ cm}",)),
    ({"reward_model": {"ground_truth": {"target": "3"}}}, ("3",)), ({"reward_model": {"ground_truth": "3"}}, ("3",)),
    ({"reward_model": {"ground_truth": ["3", "4"]}}, ("3", "4")), ({"answer": "", "target": "3"}, ("3",)),
    ({"reward_model": {"ground_truth": {"target": "", "solution": r"\boxed{3}"}}}, ("3",)),
    ({"answer": "3", "final_answer": "3"}, ("3",))])
def test_the_answer_of_a_row(record, answers):
    assert answers_of(record) == answers


@pytest.mark.parametrize(("record", "reason"), [
    ({"answer": None}, "null or empty answer"), ({"answer": " "}, "null or empty answer"), ({"answer": []},
    "null or empty"),
    ({"answer": "None"}, "null or empty answer"), ({"answer": {"a": 1}}, "null or empty"), ({"x": 1},
    "no column for the ans"),
    ({"solution": r"\boxed{}", "answer": ""}, "null or empty"), ({"answer": "3", "target": "4"},
    "two answers: '4' and '3'"),
    ({"answer": float("nan")}, "null or empty answer"), ({}, "no column for the answer among no columns"),
    ({"answer": True}, "null or empty answer")])
def test_t45_a_row_without_one_answer(record, reason):
    with pytest.raises(UnusableRow, match=reason):
        answers_of(record)


@pytest.mark.parametrize(("record", "text"), [
    ({"problem": " Why? "}, "Why?"), ({"question": "Why?"}, "Why?"), ({"prompt": "Why?"}, "Why?"),
    ({"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]}, "Why?"),
    ({"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "No."}]}, "Why?"),
    ({"reward_model": {"ground_truth": {"question": "Why?"}}, "prompt": [{"role": "user", "content": "Q: Why?"}]},
    "Why?")])
def test_the_question_of_a_row(record, text):
    assert question_of(record) == text


@pytest.mark.parametrize("record", [{"problem": ""}, {"prompt": []}, {"prompt": None}, {"question": " \n"},
    {"x": "y"}, {},
                                    {"prompt": [{"role": "user", "content": None}]}])
def test_t45_a_row_without_a_question(record):
    with pytest.raises(UnusableRow, match=r"empty prompt|no column for the question"):
        question_of(record)


def test_level_and_identity_are_kept():
    assert facts_of({"level": "Level 3", "unique_id": "a/7", "type": "Algebra"}) == {
        "level": "3", "type": "Algebra", "original": "a/7"}
    assert facts_of({"level": 3, "id": 9})["level"] == "3"


def test_every_kind_of_file_gives_the_same_problems(tmp_path):
    rows = sums(range(5))
    lines = write_lines(tmp_path / "a.jsonl", rows)
    listed = write_lines(tmp_path / "b.json", [str(rows).replace("'", '"')])
    columns = write_parquet(tmp_path / "c.parquet", rows)
    chats = write_parquet(tmp_path / "d.parquet", [rl_row(i, target=str(2 * i)) for i in range(5)])
    solved = write_parquet(tmp_path / "e.parquet",
                           [rl_row(i, solution=rf"so \boxed{{{2 * i}}}", target="damaged") for i in range(5)])
    wanted = [(question(i), str(2 * i)) for i in range(5)]
    for source in (lines, listed, columns, chats, solved):
        problems = read(source).problems
        assert [(p.metadata["question"], p.answer) for p in problems] == wanted, source
        assert [p.metadata["row"] for p in problems] == [1, 2, 3, 4, 5]
    assert {p.id for p in read(lines).problems} == {p.id for p in read(chats).problems}


BAD = ['{"problem": "cut', "[1, 2]", '{"problem": "", "answer": "3"}', '{"problem": "Why?", "answer": null}',
       '{"problem": "Why?", "answer": "1", "target": "2"}', '{"problem": "How?", "answers": ["1", "2"]}', "\x00",
       '{"answer": "3"}', "{" * 100_000, '{"problem": "\\ud83d", "answer": ""}']


def test_t45_bad_rows_are_skipped_and_counted_by_file_and_line(tmp_path):
    good = sums(range(3))
    source = write_lines(tmp_path / "rows.jsonl", [good[0], *BAD, "", good[1], good[2]])
    reading = read(source)
    assert [p.metadata["row"] for p in reading.problems] == [1, len(BAD) + 3, len(BAD) + 4]
    assert [row.row for row in reading.bad] == list(range(2, len(BAD) + 2))
    assert str(reading.bad[0]).startswith(f"{source}:2: broken JSON")
    assert f"3 of {len(BAD) + 3} rows used, {len(BAD)} bad, 0 repeated" in reading.lines()[0]
    assert reading.lines()[-1] == f"  and {len(BAD) - 5} more"


@pytest.mark.parametrize("row", BAD)
def test_t45_strict_refuses_a_bad_row(row, tmp_path):
    source = write_lines(tmp_path / "rows.jsonl", [*sums(range(2)), row])
    with pytest.raises(ValueError, match=r"rows\.jsonl:3: .*task\.math\.strict"):
        read(source, strict=True)


def test_t45_repeats_are_counted_and_contradictions_are_bad(tmp_path):
    rows = sums(range(3))
    again = {"problem": f"  {rows[1]['problem']} ", "answer": "2"}
    other = {"problem": rows[2]["problem"], "answer": "5"}
    first, second = write_lines(tmp_path / "a.jsonl", rows), write_lines(tmp_path / "b.jsonl", [again, other])
    reading = read(first, second)
    assert len(reading.problems) == 3
    assert reading.duplicates == ((second, 1),)
    assert str(reading.bad[0]) == f"{second}:2: another answer to the question of {first}:3"


@pytest.mark.parametrize(("several", "answer"), [("any", ("1", "2")), ("all", "1, 2")])
def test_several_answers_mean_what_the_setting_says(several, answer, tmp_path):
    source = write_lines(tmp_path / "rows.jsonl", [{"problem": "Roots?", "answers": ["1", "2"]}])
    assert read(source, several=several).problems[0].answer == answer
    with pytest.raises(ValueError, match=r"2 answers; task\.math\.several"):
        read(source)


def test_levels_and_prompts(tmp_path):
    source = write_parquet(tmp_path / "rows.parquet", [rl_row(1, target="2"), rl_row(2,
    target="4") | {"level": "Level 2"}])
    (problem,) = read(source, levels=("2",), prompt="tags").problems
    assert problem.answer == "4"
    assert problem.prompt[-1].content.endswith("within <answer></answer>.")
    with pytest.raises(ValueError, match=r"levels=\('7',\) keeps none"):
        read(source, levels=("7",))


@pytest.mark.parametrize(("source", "error", "parts"), [
    ("nowhere.jsonl", FileNotFoundError, ["nowhere.jsonl"]), ("hf:openai/gsm8k", ValueError, ["hf:OWNER/NAME/FILE"]),
    ("tfds:gsm8k", ValueError, ["tfds:NAME:SPLIT"]), ("rows.csv", ValueError, [".parquet, .jsonl, .json"]),
    ("torn.parquet", ValueError, ["torn.parquet", "no parquet file"]), ("list.json", ValueError, ["no JSON array"])])
def test_t46_a_source_that_cannot_be_read_is_named(source, error, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in (("rows.csv", "a,b"), ("torn.parquet", "PAR1 torn"), ("list.json", "[{]")):
        (tmp_path / name).write_text(text)
    with pytest.raises(error) as caught:
        list(read_rows(source))
    for part in parts:
        assert part in str(caught.value)


def test_t46_the_hub_without_a_network_is_an_error_that_names_the_source(tmp_path):
    program = "from rl_reasoning.data.sources import read_rows\nlist(read_rows('hf:nobody/nothing/rows.parquet'))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False,
                           env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path),
                           "PYTHONPATH": os.getcwd()})
    last = ended.stderr.strip().splitlines()[-1]
    assert "FileNotFoundError: hf:nobody/nothing/rows.parquet is not in this machine's cache" in last
    assert "give the path of a file" in last


def test_relative_paths_are_found_in_the_data_folder(tmp_path, monkeypatch):
    write_lines(tmp_path / "rows.jsonl", sums(range(2)))
    monkeypatch.setenv("RL_REASONING_DATA", str(tmp_path))
    assert find_file("rows.jsonl") == tmp_path / "rows.jsonl"
    monkeypatch.delenv("RL_REASONING_DATA")
    with pytest.raises(FileNotFoundError, match=r"\$RL_REASONING_DATA names, which is not set"):
        find_file("rows.jsonl")


def prepare(folder):
    """A tensorflow-datasets data set of GSM8K's features, prepared in a folder without network or TensorFlow."""
    import tensorflow_datasets as tfds

    class TinySums(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(
                {"question": tfds.features.Text(), "answer": tfds.features.Text()}))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i in range(3):
                yield i, {"question": question(i), "answer": f"{i} + {i} = {2 * i}\n#### {2 * i}"}

    TinySums(data_dir=str(folder), file_format="array_record").download_and_prepare()


def test_tensorflow_datasets_by_name(tmp_path, monkeypatch):
    prepare(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    found = {p.metadata["question"]: p.answer for p in read("tfds:tiny_sums:train").problems}
    assert found == {question(i): str(2 * i) for i in range(3)}
    with pytest.raises(FileNotFoundError, match=r"tfds:tiny_sums:test cannot be read"):
        read("tfds:tiny_sums:test")
