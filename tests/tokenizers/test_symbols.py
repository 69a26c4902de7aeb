import pytest

from rl_reasoning.tokenizers.symbols import SymbolTokenizer
from rl_reasoning.types import Message

TOKENIZER = SymbolTokenizer(["1", "12", "+", "="])


def test_round_trip_and_end_of_sequence():
    assert TOKENIZER.encode("12 + 1 = 12") == [1, 2, 0, 3, 1]
    assert TOKENIZER.eos_id == 4
    assert TOKENIZER.vocabulary_size == 5
    assert TOKENIZER.decode([1, 2, 0, 3, 1, 4]) == "12 + 1 = 12"
    assert TOKENIZER.encode_prompt("12 +") == TOKENIZER.encode("12 +")


def test_unknown_words_and_chats_are_refused():
    with pytest.raises(ValueError, match="'13' is not one of the 5 symbols"):
        TOKENIZER.encode("1 + 13")
    with pytest.raises(ValueError, match="no chat template"):
        TOKENIZER.encode_prompt((Message("user", "1"),))


@pytest.mark.parametrize("symbols", [["a", "a"], ["a b"], [""]])
def test_bad_symbols_are_refused(symbols):
    with pytest.raises(ValueError, match="distinct words"):
        SymbolTokenizer(symbols)
