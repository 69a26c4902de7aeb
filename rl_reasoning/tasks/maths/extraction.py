"""The final answer of a text that nobody vouches for: in a box, in <answer> tags, or after "the answer is".

Everything here is linear in the text. What a policy thinks inside <think>...</think> is never its answer.
"""

import re
from collections.abc import Callable

from rl_reasoning.tasks.boxed import boxes, last_boxed

MOST_BOXES = 3

_OLD_BOX = re.compile(r"\\fbox(?=\s*\{)")
_BARE_BOX = re.compile(r"\\boxed\s+([^\s{}\\$]+)")
_PHRASE = re.compile(r"\b(?:final\s+answer|answer)\s*(?:is|are|:)\s*:?[ \t]*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"\n|[.!?](?=\s|$)|<")


class NoAnswer(ValueError):
    """The text holds no answer that can be graded; the message says why."""


def after_thinking(text: str) -> str:
    """What follows the last </think>.

    Raises NoAnswer when a think block is open at the end: the text was cut off before its answer.
    """
    spoken = text.rsplit("</think>", 1)[-1]
    if "<think>" in spoken:
        raise NoAnswer("the text ends inside its think block")
    return spoken


def boxed(text: str) -> str | None:
    r"""The last \boxed{...} (or \fbox{...}, or \boxed followed by a space and one word).

    Raises NoAnswer when there are more than `MOST_BOXES` different boxes: that is a list of guesses.
    """
    text = _OLD_BOX.sub(r"\\boxed", text)
    found = boxes(text)
    if len({content.strip() for content in found}) > MOST_BOXES:
        raise NoAnswer(f"more than {MOST_BOXES} different boxes")
    if found or r"\boxed{" in text:
        return last_boxed(text)
    bare = _BARE_BOX.findall(text)
    return bare[-1].rstrip(".,;") if len(bare) == 1 else None


def tagged(text: str) -> str | None:
    """What stands in the last <answer>...</answer>, or in the box inside it.

    Raises NoAnswer when the tags hold different answers, or the last one is not closed.
    """
    parts = text.split("<answer>")[1:]
    if not parts:
        return None
    if "</answer>" not in parts[-1]:
        raise NoAnswer("the last <answer> is not closed")
    contents = [part.split("</answer>", 1)[0].strip() for part in parts if "</answer>" in part]
    if len(set(contents)) > 1:
        raise NoAnswer("several <answer> blocks that differ")
    return boxed(contents[-1]) if r"\boxed" in contents[-1] else contents[-1]


def phrased(text: str) -> str | None:
    """What follows the last "the answer is" (or "answer:"), up to the end of its sentence."""
    starts = [match.end() for match in _PHRASE.finditer(text)]
    if not starts:
        return None
    rest = text[starts[-1]:]
    end = _SENTENCE_END.search(rest)
    return (rest[:end.start()] if end else rest).strip().strip("*").strip()


def anywhere(text: str) -> str | None:
    """The answer in tags, or else in a box, or else after the phrase."""
    for find in (tagged, boxed):
        if (answer := find(text)) is not None:
            return answer
    return None if r"\boxed" in text else phrased(text)


FORMS: dict[str, Callable[[str], str | None]] = {
    "any": anywhere, "boxed": boxed, "tags": tagged, "phrase": phrased}


def final_answer(text: str, form: str = "any") -> str:
    """The answer of a text in one of `FORMS`.

    Raises:
      NoAnswer: there is none, it is empty or cut off, or there are several.
    """
    answer = FORMS[form](after_thinking(text))
    if answer is None:
        raise NoAnswer("no finished answer in the text")
    if not answer.strip():
        raise NoAnswer("the answer is empty")
    return answer.strip()
