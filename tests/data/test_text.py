"""Plain text: every document and every token once an epoch, bad rows by line, and windows that overlap by one."""

import numpy as np
import pytest

from rl_reasoning.data.text import Text, digest, read_text, windows


def encode(text):
    """One id a word, which is a number."""
    return [int(word) for word in text.split()]


@pytest.fixture(name="sources")
def text_files(tmp_path):
    (tmp_path / "a.txt").write_text("1 2 3\n\n4 5\n")
    (tmp_path / "b.jsonl").write_text('{"text": "6 7"}\nnot json\n{"text": " "}\n{"title": "x"}\n{"text": "8"}\n')
    return [str(tmp_path / "a.txt"), str(tmp_path / "b.jsonl")]


def test_documents_end_with_the_end_of_sequence_and_bad_rows_are_named(sources):
    text = read_text(sources, encode, 99)
    assert text.tokens.tolist() == [1, 2, 3, 4, 5, 99, 6, 7, 99, 8, 99]
    told = text.lines()
    assert told[0] == "text: 3 documents, 11 tokens, 3 rows skipped"
    assert [line.split(".jsonl:")[1].split(":")[0] for line in told[1:]] == ["2", "3", "4"]
    assert told[3].endswith("no column 'text' among title")


@pytest.mark.parametrize("length", [2, 4, 5, 11, 50])
def test_t47_every_token_is_predicted_once_an_epoch(sources, length):
    text = read_text(sources, encode, 99)
    count = -(-(len(text.tokens) - 1) // (length - 1))
    served = windows(text, length, 1, seed=0)
    for epoch in range(2):
        pieces = [served[epoch * count + step][0].tolist() for step in range(count)]
        assert sorted(token for piece in pieces for token in piece[1:]) == sorted(text.tokens[1:].tolist())
        assert all(2 <= len(piece) <= length for piece in pieces)
    assert [piece.tolist() for piece in windows(text, length, 3, seed=0)[5]] == [
        served[step][0].tolist() for step in range(15, 18)]


def test_order_depends_on_the_seed_and_the_epoch():
    text = read_text_of(np.arange(100))
    orders = {seed: [windows(text, 2, 99, seed)[epoch] for epoch in range(2)] for seed in (0, 1)}
    firsts = {tuple(int(piece[0]) for piece in order) for pair in orders.values() for order in pair}
    assert len(firsts) == 4


def read_text_of(tokens):
    return Text(tokens.astype(np.int32), 1, ())


@pytest.mark.parametrize(("name", "content", "named"), [
    ("a.txt", b"1 2 \xff 3", r"a\.txt is no UTF-8 text: byte 4 is 0xff"),
    ("a.txt", b"1 two", r"a\.txt: invalid literal .*two"),
    ("a.txt", b"  \n", r"there is no document in .*an empty text"),
    ("a.jsonl", b'{"body": "1"}', r"there is no document in .*a\.jsonl:1: no column 'text' among body"),
    ("a.csv", b"1", r"does not end in one of"),
])
def test_what_is_no_text_is_refused(tmp_path, name, content, named):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=named):
        read_text([str(tmp_path / name)], encode, 99)


def test_a_digest_changes_with_the_file(sources, tmp_path):
    before = digest(sources)
    (tmp_path / "a.txt").write_text("1 2 3\n\n4 6\n")
    assert {name for name, value in digest(sources).items() if value != before[name]} == {sources[0]}
    with pytest.raises(FileNotFoundError, match=r"gone\.txt"):
        digest([str(tmp_path / "gone.txt")])
