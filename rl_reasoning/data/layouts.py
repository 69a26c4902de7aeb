r"""What a row of a problem set asks, and what answers it, whatever its columns are called.

The layouts of MATH, GSM8K, AIME, AMC, OlympiadBench and their relatives, as RL parquet (a chat in `prompt`, the
answer below `reward_model.ground_truth`) or as plain columns.
"""

import re
from collections.abc import Mapping
from typing import Any

from rl_reasoning.tasks.maths.extraction import NoAnswer, boxed

QUESTIONS = ("question", "problem", "query", "input", "instruction")
ANSWERS = ("target", "final_answer", "expected_answer", "answers", "answer", "gold", "label")
SOLUTIONS = ("solution", "solutions", "rationale")
IDENTITIES = ("unique_id", "id", "problem_id", "ID", "uid")
FACTS = ("level", "type", "subject", "data_source", "year", "unit")

_GSM8K = re.compile(r"####\s*(.+?)\s*$")
_MARKS = ("", "none", "null", "nan", "n/a")


class UnusableRow(ValueError):
    """A row without a question or without one answer; the message says what is wrong."""


def question_of(record: Mapping[str, Any]) -> str:
    """The text of the problem.

    Raises UnusableRow when there is none, or it is empty.
    """
    places = [_ground_truth(record), record]
    texts = [place[name] for place in places for name in QUESTIONS if isinstance(place.get(name), str)]
    texts += [_last_turn(record[name]) for name in ("prompt", "messages") if name in record]
    found = next((text.strip() for text in texts if text and text.strip()), None)
    if found is None:
        raise UnusableRow("an empty prompt" if texts else f"no column for the question among {_names(record)}")
    return found


def answers_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The answers of a row, one as a rule; the box of a written solution goes before a column with the answer.

    Raises UnusableRow when there is none, it is empty, or two columns hold different answers.
    """
    truth = _ground_truth(record)
    solved = [answer for place in (truth, record) for name in SOLUTIONS
              if (answer := _boxed(place.get(name))) is not None]
    if solved:
        return (solved[0],)
    given = [place[name] for place in (truth, record) for name in ANSWERS if name in place]
    found = [answers for value in given if (answers := _texts(value))]
    if not found:
        raise UnusableRow("a null or empty answer" if given else f"no column for the answer among {_names(record)}")
    if any(set(other) != set(found[0]) for other in found[1:]):
        raise UnusableRow(f"two answers: {found[0][0][:40]!r} and {next(o for o in found if o != found[0])[0][:40]!r}")
    return found[0]


def facts_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What else is worth keeping: level, subject, the identity the source gives it."""
    facts = {name: record[name] for name in FACTS if isinstance(record.get(name), str | int)}
    if "level" in facts:
        facts["level"] = str(facts["level"]).removeprefix("Level").strip()
    identity = next((record[name] for name in IDENTITIES if isinstance(record.get(name), str | int)), None)
    return facts if identity is None else facts | {"original": str(identity)}


def _ground_truth(record: Mapping[str, Any]) -> Mapping[str, Any]:
    model = record.get("reward_model")
    truth = model.get("ground_truth") if isinstance(model, Mapping) else None
    if isinstance(truth, Mapping):
        return truth
    return {} if truth is None else {"target": truth}


def _last_turn(prompt: Any) -> str | None:
    if isinstance(prompt, str):
        return prompt
    turns = [turn.get("content") for turn in prompt or () if isinstance(turn, Mapping) and turn.get("role") == "user"]
    return turns[-1] if turns and isinstance(turns[-1], str) else ""


def _boxed(solution: Any) -> str | None:
    if isinstance(solution, list):
        solution = solution[0] if len(solution) == 1 else None
    if not isinstance(solution, str):
        return None
    try:
        content = boxed(solution)
    except NoAnswer:
        return None
    return content.strip() if content and content.strip() else None


def _texts(value: Any) -> tuple[str, ...]:
    """A column's answers as texts: of a number, a text, GSM8K's worked text, or a list of these; () for none."""
    if isinstance(value, list | tuple):
        return tuple(dict.fromkeys(text for part in value for text in _texts(part)))
    if isinstance(value, bool) or value is None:
        return ()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int | float):
        return ()
    text = str(value).strip()
    worked = _GSM8K.search(text)
    text = worked[1] if worked else (_boxed(text) or text) if r"\boxed" in text else text
    return () if text.lower() in _MARKS else (text,)


def _names(record: Mapping[str, Any]) -> str:
    return ", ".join(list(record)[:12]) or "no columns"
