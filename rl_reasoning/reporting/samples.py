"""The parts of the report that look at single answers: how often each outcome, and some answers to read."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from rl_reasoning.reporting.page import details, table, text
from rl_reasoning.reporting.results import Result, base_of, final_of
from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.reporting.table import mean_cell, percent, row_name
from rl_reasoning.types import Outcome

COLORS = {
    Outcome.RIGHT: "var(--series-3)",
    Outcome.PARTIAL: "var(--series-6)",
    Outcome.WRONG: "var(--muted)",
    Outcome.UNPARSABLE: "var(--series-5)",
    Outcome.TIMEOUT: "var(--series-4)",
    Outcome.CRASH: "var(--series-2)",
}
_LONGEST = 4000


def outcome_section(results: Sequence[Result]) -> str:
    """How often each outcome occurred, as numbers and a bar: the base and each run's last result, seeds summed."""
    shown = [each for each in (base_of(results), *final_of(results)) if each is not None]
    counted = [(each, _outcomes(each)) for each in shown]
    counted = [(each, counts) for each, counts in counted if counts]
    if not counted:
        return ""
    present = [outcome for outcome in COLORS if any(counts[outcome] for _, counts in counted)]
    rows = []
    for each, counts in counted:
        cells = [
            f"{counts[outcome]:,}<small>{percent(counts[outcome] / counts.total())} %</small>" for outcome in present
        ]
        means = [mean_cell(each, "entropy", ".3f"), mean_cell(each, "length", ".1f")]
        rows.append([text(row_name(each)), *cells, _bar(counts, present), *means])
    boxes = [f'<i class="box" style="background: {COLORS[outcome]}"></i>{outcome}' for outcome in present]
    return f"<h2>Held-out answers</h2>{table(['outcome', *boxes, '', 'entropy', 'tokens'], rows)}"


def sample_section(folders: Sequence[RunFolder], names: Sequence[str], count: int = 10) -> str:
    """Up to `count` answers of each run's last evaluation, taken evenly from every outcome that occurred."""
    parts: list[str] = []
    for folder, name in zip(folders, names, strict=True):
        evaluations = folder.evaluations()
        chosen = choose(list(folder.samples(evaluations[-1]["label"])), count) if evaluations else []
        if chosen:
            last = evaluations[-1]
            heading = f"{text(name)}, seed {last['seed']}, step {last['step']}"
            parts.append(details(heading, "".join(map(_sample, chosen)), opened=not parts))
    note = (
        '<p class="note">Taken evenly from every outcome that occurred, so not in proportion to how often it did.</p>'
    )
    return "\n".join(["<h2>Sample answers</h2>", note, *parts]) if parts else ""


def choose(samples: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """At most `count` samples, about as many of each outcome as of the others, evenly spaced over the file."""
    by_outcome = {outcome: [each for each in samples if each["outcome"] == outcome] for outcome in COLORS}
    quotas = dict.fromkeys(COLORS, 0)
    while sum(quotas.values()) < min(count, len(samples)):
        open_ones = [outcome for outcome in COLORS if quotas[outcome] < len(by_outcome[outcome])]
        quotas[min(open_ones, key=quotas.__getitem__)] += 1
    return [
        found[(2 * place + 1) * len(found) // (2 * quotas[outcome])]
        for outcome, found in by_outcome.items()
        for place in range(quotas[outcome])
    ]


def _outcomes(each: Result) -> collections.Counter:
    """How often each outcome occurred over the seeds' answers."""
    return collections.Counter(
        sample["outcome"] for source in each.sources for sample in source.folder.samples(source.record["label"])
    )


def _bar(counts: Mapping[str, int], present: Sequence[Outcome]) -> str:
    total = sum(counts.values())
    parts = [
        f'<i style="width: {100 * counts[outcome] / total:.2f}%; background: {COLORS[outcome]}"></i>'
        for outcome in present
    ]
    return f'<span class="bar">{"".join(parts)}</span>'


def _sample(sample: Mapping[str, Any]) -> str:
    facts = [f"problem {sample['problem']}", f"{sample['length']} tokens, ended by {sample['stop_reason']}"]
    if sample.get("logprob") is not None:
        facts.append(f"log-probability {sample['logprob']:.2f}")
    read = "nothing" if sample["answer"] is None else sample["answer"]
    color = COLORS[Outcome(sample["outcome"])]
    return (
        f'<div class="sample" style="--mark: {color}"><strong>{text(sample["outcome"])}</strong>: '
        f"{text(sample['reason'])}<pre>{text(_cut(sample['prompt']))}</pre><pre>{text(_cut(sample['text']))}</pre>"
        f"<small>{text('. '.join(facts))}. Read as: {text(read)}</small></div>"
    )


def _cut(value: object) -> str:
    shown = str(value)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}\n[{len(shown) - _LONGEST:,} more characters]"
