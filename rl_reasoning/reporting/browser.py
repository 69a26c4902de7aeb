"""The sample browser of the report: answers of the policies side by side, problem by problem, token by token."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rl_reasoning.reporting.report_training import Styles, css_color
from rl_reasoning.reporting.results import Result, base_of, final_of
from rl_reasoning.reporting.samples import COLORS
from rl_reasoning.reporting.table import row_name

MOST_PROBLEMS = 40
MOST_ANSWERS = 4
LONGEST = 4000
LONGEST_TOKENS = 1500


def browser_section(results: Sequence[Result], styles: Styles) -> str:
    """The place of the browser and its data; "" where no answers were kept."""
    found = browser_data(results, styles)
    if not found:
        return ""
    # In JSON "<" may be written as an escape, and then nothing in the data can end its block.
    block = json.dumps(found, separators=(",", ":")).replace("<", "\\u003c")
    return ('<h2>Answers, problem by problem</h2>\n<div id="browser"><p class="note">Here a browser that runs scripts '
            "shows the answers to a problem side by side.</p></div>\n"
            f'<script type="application/json" id="answers">{block}</script>')


def browser_data(results: Sequence[Result], styles: Styles) -> dict[str, Any]:
    """What the script shows: some problems from easy to hard, and for each policy a few right and a few other answers.

    Answers whose tokens were kept go first. Of several seeds the first is shown.
    """
    shown = [each for each in (base_of(results), *final_of(results)) if each is not None]
    kept = {name: _answers(each) for name, each in enumerate(shown)}
    if not any(kept.values()):
        return {}
    problems = _spread(shown[0], list(kept[0] or next(filter(None, kept.values()))))
    prompts = {problem: answers[0]["prompt"] for of in kept.values() for problem, answers in of.items()}
    rows: list[dict[str, Any]] = [{"id": problem, "prompt": _cut(prompts[problem]),
             "policies": [_policy(name, kept[name][problem]) for name in kept if problem in kept[name]]}
            for problem in problems]
    verdicts = {answer["verdict"] for row in rows for policy in row["policies"] for answer in policy["answers"]}
    return {"policies": [{"name": row_name(each), "color": css_color(each.name, styles)} for each in shown],
            "problems": rows, "verdicts": ["all", *(name for name in map(str, COLORS) if name in verdicts)],
            "colors": {str(name): color for name, color in COLORS.items()}, "spaced": _spaced(rows)}


def _answers(result: Result) -> dict[str, list[dict[str, Any]]]:
    """Each problem's answers: its outcomes counted, and a few of each kind kept."""
    source = result.sources[0]
    found: dict[str, list[dict[str, Any]]] = {}
    for sample in source.folder.samples(source.record["label"]):
        problem = found.setdefault(str(sample["problem"]), [])
        kind = sample["outcome"] == "right"
        problem.append(sample if "tokens" in sample or sum(each["outcome"] == "right" == kind for each in problem)
                       < 2 * MOST_ANSWERS else {"outcome": sample["outcome"], "prompt": sample["prompt"]})
    return found


def _policy(name: int, answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    whole = sorted((each for each in answers if "text" in each), key=lambda each: "tokens" not in each)
    right = [each for each in whole if each["outcome"] == "right"][:MOST_ANSWERS]
    other = [each for each in whole if each["outcome"] != "right"][:MOST_ANSWERS]
    return {"policy": name, "right": sum(each["outcome"] == "right" for each in answers), "total": len(answers),
            "answers": [_answer(each) for each in (*right, *other)]}


def _answer(sample: Mapping[str, Any]) -> dict[str, Any]:
    tokens = sample.get("tokens")
    if tokens is not None and len(tokens) > LONGEST_TOKENS:
        tokens = None
    logprob = sample.get("logprob")
    return {"verdict": sample["outcome"], "reason": sample["reason"], "sample": sample["sample"],
            "logprob": None if logprob is None else round(logprob, 3),
            "text": "" if tokens else _cut(sample["text"]), "tokens": tokens}


def _spread(result: Result, problems: Sequence[str]) -> list[str]:
    """At most `MOST_PROBLEMS`, evenly from the easiest to the hardest."""
    share = dict(zip(result.ids, result.right.sum(axis=0), strict=True)) if result.ids else {}
    ordered = sorted(problems, key=lambda problem: -share.get(problem, 0))
    if len(ordered) <= MOST_PROBLEMS:
        return ordered
    return [ordered[(2 * at + 1) * len(ordered) // (2 * MOST_PROBLEMS)] for at in range(MOST_PROBLEMS)]


def _spaced(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether tokens are words that stand apart, as in the small languages, and no pieces that carry their spaces."""
    tokens = [token[0] for row in rows for policy in row["policies"] for answer in policy["answers"]
              for token in answer["tokens"] or ()]
    return bool(tokens) and not any(" " in token or "\n" in token for token in tokens)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}\n[{len(text) - LONGEST:,} more characters]"
