import pytest

from rl_reasoning.tokenizers.folder import JsonTokenizer
from rl_reasoning.tokenizers.pieces import PieceTokenizer
from rl_reasoning.types import Message

TEXTS = ("Calculate 5 - -3.\n\n<answer>2</answer>", "naïve\u00a0— 12  x", "")
TOKENIZER = PieceTokenizer(TEXTS)


def test_pieces_put_together_are_the_text():
    for text in (*TEXTS, " - 5. - 5.", "<answer> 17</answer>", "Calculate\n\n3"):
        ids = TOKENIZER.encode(text)
        assert TOKENIZER.decode([*ids, TOKENIZER.eos_id]) == text
    assert TOKENIZER.vocabulary_size == TOKENIZER.eos_id + 1
    assert len(TOKENIZER.encode("<answer>12</answer>")) == 4
    assert len(TOKENIZER.encode("Calculate 5 - -3.")) == 6


def test_turns_are_read_one_after_the_other_and_other_words_are_refused():
    turns = (Message("user", "Calculate 5"), Message("user", "3."))
    assert TOKENIZER.encode_prompt(turns) == TOKENIZER.encode("Calculate 5\n3.") == TOKENIZER.encode_prompt(
        "Calculate 5\n3.")
    with pytest.raises(ValueError, match=r"' Sum' is not one of the \d+ pieces .* 'Calculate Sum'"):
        TOKENIZER.encode("Calculate Sum")


def test_a_json_file_of_it_gives_the_same_ids_and_texts():
    again = JsonTokenizer(TOKENIZER.pipeline(), eos_id=TOKENIZER.eos_id)
    for text in TEXTS:
        assert again.encode(text) == TOKENIZER.encode(text)
        assert again.decode([*TOKENIZER.encode(text), TOKENIZER.eos_id]) == text
