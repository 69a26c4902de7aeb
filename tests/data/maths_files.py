"""Small problem sets for tests, in the layouts in which such sets are published."""

import json
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet

WORDS = ("apples", "pears", "plums", "nuts", "figs", "dates", "limes", "grapes", "melons", "beans")


def question(number: int, about: str = "") -> str:
    """A question that shares no 13 words with another."""
    return f"{about}{WORDS[number % 10]} {number}: what is {number} + {number}?"


def rl_row(number: int, **truth: Any) -> dict[str, Any]:
    """A row of the RL parquet layout; `truth` is what stands beside the question."""
    text = question(number)
    return {"data_source": "sums", "prompt": [{"role": "user", "content": text}], "ability": "math", "level": "Level 1",
            "reward_model": {"style": "rule", "ground_truth": {"question": text, **truth}},
            "extra_info": {"index": number, "split": "train"}}


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> str:
    parquet.write_table(arrow.Table.from_pylist(rows), path)
    return str(path)


def write_lines(path: Path, rows: list[Any]) -> str:
    """JSON lines; a text stands for itself."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def sums(numbers: range, about: str = "") -> list[dict[str, Any]]:
    return [{"problem": question(number, about), "answer": str(2 * number)} for number in numbers]
