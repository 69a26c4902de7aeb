"""Trains a sentencepiece tokenizer on a text file: one sentence or paragraph a line.

    python scripts/train_sentencepiece.py corpus.txt tokenizer.model --vocabulary 8000

Bytes that no piece covers are pieces of their own, digits stand alone, and spaces and newlines are kept as they are,
so that any text comes back unchanged. Ids: 0 unknown, 1 beginning, 2 end of sequence; no padding id.
"""

import argparse
import io
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="UTF-8 text to learn from")
    parser.add_argument("out", type=Path, help="the .model file to write")
    parser.add_argument("--vocabulary", type=int, default=8000, help="number of ids (default %(default)s)")
    parser.add_argument("--kind", choices=("bpe", "unigram"), default="bpe", help="default %(default)s")
    options = parser.parse_args(arguments)
    try:
        train(options.text, options.out, options.vocabulary, options.kind)
    except (OSError, RuntimeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(options.out)
    return 0


def train(text: Path, out: Path, vocabulary: int, kind: str) -> None:
    """Writes `out`. Raises FileNotFoundError, FileExistsError, or RuntimeError when the text is too small."""
    import sentencepiece

    if not text.is_file():
        raise FileNotFoundError(f"{text} is not there")
    if out.exists():
        raise FileExistsError(f"{out} is there already; name another file")
    model = io.BytesIO()
    with text.open(encoding="utf-8") as lines:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(line.rstrip("\n") for line in lines), model_writer=model, vocab_size=vocabulary,
            model_type=kind, byte_fallback=True, split_digits=True, remove_extra_whitespaces=False,
            add_dummy_prefix=False, normalization_rule_name="identity", character_coverage=0.9995, unk_id=0, bos_id=1,
            eos_id=2, pad_id=-1, minloglevel=2)
    out.write_bytes(model.getvalue())


if __name__ == "__main__":
    sys.exit(main())
