"""What each maths grader gets right and wrong, and how fast.

    RL_REASONING_DATA=FOLDER python scripts/grader_report.py [--sample=N] [--grader=NAME ...] [--part=truths|sets|speed]

Three parts. The labelled truths of tests/tasks/truth.jsonl: a confusion matrix for each grader. The published problem
sets in FOLDER (math/train.parquet, math/test.parquet, aime2025/test.parquet, amc23/test.parquet, math500.jsonl), those
that are there: each gold solution against itself, its answer against the form in which the file normalised it, and
against the answers of three other problems. And verdicts a second, with the cheap stage, with math-verify alone, and in
a pool of processes.
"""

import argparse
import collections
import dataclasses
import itertools
import json
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence

from rl_reasoning import config
from rl_reasoning.data.layouts import UnusableRow, answers_of
from rl_reasoning.data.sources import BadRow, read_rows
from rl_reasoning.tasks import verify
from rl_reasoning.tasks.maths import algebra, graders
from rl_reasoning.tasks.maths.graders import GRADERS, grade
from rl_reasoning.tasks.maths.spelling import clean
from rl_reasoning.tasks.maths.task import Math
from rl_reasoning.tasks.pool import VerifierPool
from rl_reasoning.types import Outcome, Problem

TRUTHS = pathlib.Path(__file__).parent.parent / "tests" / "tasks" / "truth.jsonl"
SETS = ("math/train.parquet", "math/test.parquet", "aime2025/test.parquet", "amc23/test.parquet", "math500.jsonl")
SHOWN = 12
OFFSETS = (1, 7, 101)
PARTS = ("truths", "sets", "speed")
WORKERS = 2


def judged(grader: str, gold: str, answer: str) -> str:
    """A grader's outcome; what it raised counts as a crash."""
    try:
        return grade(grader, gold, answer)
    except Exception as error:
        return f"{Outcome.CRASH} ({type(error).__name__})"


def confusion(grader: str) -> Iterator[str]:
    """The matrix on the labelled truths, and the mistakes by category."""
    truths = [json.loads(line) for line in TRUTHS.read_text().splitlines()]
    counts, mistakes = collections.Counter(), collections.Counter()
    for row in truths:
        right = judged(grader, row["gold"], row["answer"]) == Outcome.RIGHT
        kind = ("true" if right == row["right"] else "false") + (" right" if right else " wrong")
        counts[kind] += 1
        counts["false right, adversarial"] += kind == "false right" and row["adversarial"]
        mistakes[f"{kind}: {row['category']}"] += right != row["right"]
    yield f"{grader:>12}" + "".join(f"{counts[kind]:>14}" for kind in (
        "true right", "false wrong", "true wrong", "false right")) + f"{counts['false right, adversarial']:>26}"
    yield from (f"{'':>14}{count:>4} {name}" for name, count in mistakes.most_common() if count)


@dataclasses.dataclass(frozen=True)
class Gold:
    """A problem's answer, the text that reaches it, and the answer as the file normalised it (None: it does not)."""

    answer: str
    text: str
    normal: str | None


def golds(source: str) -> tuple[list[Gold], list[str]]:
    """The gold answers of a set, and the rows that have none."""
    found, skipped = [], []
    for row in read_rows(source):
        if isinstance(row, BadRow):
            skipped.append(str(row))
            continue
        number, record = row
        truth = (record.get("reward_model") or {}).get("ground_truth") or record
        solution = truth.get("solution")
        try:
            answer = answers_of(record)[0]
        except UnusableRow as error:
            skipped.append(f"{source}:{number}: {error}")
        else:
            found.append(Gold(answer, solution or rf"\boxed{{{answer}}}", truth.get("target") if solution else None))
    return found, skipped


def self_check(grader: str, source: str, sample: int) -> Iterator[str]:
    """Gold answers against themselves, against the file's own normal form, and against other problems' answers."""
    found, skipped = golds(source)
    found = found[:sample]
    answers = [gold.answer for gold in found]
    yield f"{grader} on {source}: {len(answers)} gold answers, {len(skipped)} rows without one"
    yield from (f"    skipped {row}" for row in skipped[:SHOWN])
    task = Math(config.Math(grader=grader, second_share=0.0))
    itself = [(gold.answer, gold.text[-60:], verify(task, _problem(gold), gold.text).outcome) for gold in found]
    yield from tally("solutions against themselves", itself, Outcome.RIGHT)
    normal = [(gold.answer, gold.normal, judged(grader, gold.answer, gold.normal)) for gold in found if gold.normal]
    yield from tally("against the file's normal form", normal, Outcome.RIGHT)
    others = [(gold, answers[(i + step) % len(answers)]) for step in OFFSETS for i, gold in enumerate(answers)]
    pairs = [(gold, other, judged(grader, gold, other)) for gold, other in others
             if clean(gold).replace(" ", "") != clean(other).replace(" ", "")]
    yield from tally("against another problem's answer", pairs, Outcome.WRONG)


def _problem(gold: Gold) -> Problem:
    return Problem("math:gold", "", gold.answer, "math", {"question": ""})


def tally(what: str, found: Sequence[tuple[str, str, str]], wanted: Outcome) -> Iterator[str]:
    """Counts of outcomes, and the pairs that came out otherwise, by why."""
    if not found:
        return
    counts = collections.Counter(str(outcome) for *_, outcome in found)
    shares = ", ".join(f"{name} {count} ({100 * count / len(found):.2f} %)" for name, count in counts.most_common())
    yield f"  {what}: {shares}"
    odd = [(category(gold, other), gold, other, outcome) for gold, other, outcome in found if outcome != wanted]
    for name, rows in itertools.groupby(sorted(odd), key=lambda row: row[0]):
        rows = list(rows)
        yield f"    {len(rows)} {name}"
        yield from (f"      {outcome}: {gold!r} and {other!r}" for _, gold, other, outcome in rows[:SHOWN])


def category(gold: str, other: str) -> str:
    """A word for why two spellings may come out otherwise than wanted."""
    if r"\begin{pmatrix}" in other and r"\\" in gold and r"\\" not in other:
        return "the file's form has lost the line breaks of a matrix"
    if other == "" or r"{or}" in other or "{}" in other or "normal{" in other:
        return "the file's form has lost words"
    texts = [clean(text) for text in (gold, other)]
    if any(mark in text for text in texts for mark in ("degree", "%", "dollar", "$")):
        return "a degree, percent or currency sign on one side"
    if any("=" in text for text in texts):
        return "a name on one side"
    if any(part.isalpha() and len(part) > 1 for text in texts for part in text.split()):
        return "a word or unit on one side"
    if r"\frac{\}{p}" in other or any(f"{name}x" in other for name in (r"\sin", r"\cos", r"\tan", r"\sec")):
        return "the file's form is broken LaTeX"
    return "equal values, or else"


def speed(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Verdicts a second: all of `math_verify`, the part without algebra, and the library called for every pair."""
    algebra.equal("x", "y")  # imports sympy
    decided = [pair for pair in pairs if graders.cheap(*pair) is not None]
    stages = {"cheap stage, on what it decides": (graders.cheap, decided),
              "math_verify with the cheap stage": (lambda *pair: judged("math_verify", *pair), pairs),
              "math-verify alone in a loop": (_library_alone, pairs)}
    yield f"{len(pairs)} pairs; the cheap stage decides {100 * len(decided) / len(pairs):.1f} %"
    for name, (judge, given) in stages.items():
        algebra.parse.cache_clear()
        start = time.perf_counter()
        for pair in given:
            judge(*pair)
        seconds = time.perf_counter() - start
        yield f"  {name}: {len(given) / seconds:,.0f} verdicts a second ({len(given)} in {seconds:.2f} s)"
    seconds = _pool_seconds(pairs)
    yield (f"  the task's verifier in {WORKERS} processes: {len(pairs) / seconds:,.0f} verdicts a second "
           f"({len(pairs)} in {seconds:.2f} s)")


def _pool_seconds(pairs: Sequence[tuple[str, str]]) -> float:
    """Wall seconds of all verdicts on boxed answers, once every process has its packages."""
    items = [(_problem(Gold(gold, "", None)), rf"\boxed{{{answer}}}") for gold, answer in pairs]
    with VerifierPool(Math(config.Math()), config.Verifier(workers=WORKERS)) as pool:
        pool.verify_all([(_problem(Gold("x", "", None)), r"\boxed{y}")] * 4 * WORKERS)
        start = time.perf_counter()
        pool.verify_all(items)
        return time.perf_counter() - start


def _library_alone(gold: str, answer: str) -> bool | None:
    import math_verify

    texts = [math_verify.parse(rf"\boxed{{{text}}}", parsing_timeout=None) for text in (gold, answer)]
    return math_verify.verify(*texts, timeout_seconds=None)


def _speed_pairs(sources: Sequence[str], count: int) -> list[tuple[str, str]]:
    """Gold answers against themselves and against the next problem's, half of each."""
    answers = [gold.answer for source in sources for gold in golds(source)[0]][:count]
    return [(gold, other) for i, gold in enumerate(answers) for other in (gold, answers[(i + 1) % len(answers)])]


def main(argv: Sequence[str]) -> int:
    """Prints the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=10**9, help="gold answers of each set that are used")
    parser.add_argument("--grader", action="append", choices=tuple(GRADERS), help="only this one; may be repeated")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; may be repeated")
    given = parser.parse_args(argv)
    names, parts = given.grader or tuple(GRADERS), given.part or PARTS
    if "truths" in parts:
        print(f"{'grader':>12}{'true right':>14}{'false wrong':>14}{'true wrong':>14}{'false right':>14}"
              f"{'false right, adversarial':>26}")
        for name in names:
            print(*confusion(name), sep="\n", flush=True)
    sources = [source for source in SETS if _there(source)]
    if "sets" in parts:
        for source, name in itertools.product(sources, names):
            print(*self_check(name, source, given.sample), sep="\n", flush=True)
    if "speed" in parts and sources:
        print(*speed(_speed_pairs(sources[:1], min(1000, given.sample))), sep="\n")
    return 0


def _there(source: str) -> bool:
    try:
        next(iter(read_rows(source)))
    except FileNotFoundError as error:
        print(f"left out: {error}")
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
