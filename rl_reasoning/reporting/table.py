"""Evaluations side by side as text, and in one sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rl_reasoning.reporting.results import Change, Result, base_of, by_group, difference

WIDTH = 120


def evaluation_table(results: Sequence[Result], markdown: bool = False) -> str:
    """Two tables: the mean Pass@k at every k with entropy and length, then intervals and changes at a few k.

    Percent throughout, at most 120 columns wide. A change is against the base among `results`, on the
    same problems; one whose 95 % interval contains zero is marked "unclear".
    """
    means = _means_table(results)
    intervals = _intervals_table(results)
    lay_out = markdown_table if markdown else plain
    titles = [
        f"Pass@k, mean over {_problems(results)} in percent",
        "95 % intervals, and the change from the base in points (unclear: its interval contains zero)",
    ]
    if markdown:
        titles = [f"**{title}**\n" for title in titles]
    return f"{titles[0]}\n{lay_out(means)}\n\n{titles[1]}\n{lay_out(intervals)}\n"


def breakdown_table(results: Sequence[Result]) -> str:
    """Pass@1 by each fact of the problems that the evaluations name, with 95 % intervals; "" where none is named."""
    return "\n".join(f"Pass@1 by {fact} in percent, with 95 % intervals over problems\n"
                     f"{plain(_turned(breakdown_rows(results, fact)))}\n" for fact in facts_of(results))


def facts_of(results: Sequence[Result]) -> list[str]:
    """The facts that some of these results are broken down by."""
    return list(dict.fromkeys(fact for each in results for fact in each.facts))


def breakdown_rows(results: Sequence[Result], fact: str) -> list[list[str]]:
    """A head and a row a result: a column for each value of the fact, headed with how many problems have it."""
    groups = [(each, by_group(each, fact)) for each in results if fact in each.facts]
    counts = {value: row[0] for _, found in groups for value, row in found.items()}
    rows = [[fact, *(f"{value} ({count} problems)" for value, count in counts.items())]]
    rows += [[row_name(each), *(_group_cell(found.get(value)) for value in counts)] for each, found in groups]
    return rows


def _turned(rows: list[list[str]]) -> list[list[str]]:
    """Rows as columns where there are too many columns for a line."""
    wide = sum(max(map(len, column)) + 2 for column in zip(*rows, strict=True)) > WIDTH
    return [list(column) for column in zip(*rows, strict=True)] if wide else rows


def detail_table(results: Sequence[Result]) -> str:
    """What else an evaluation says of its answers, see `detail_rows`."""
    title = "Of all n answers (percent with 95 % intervals over problems; solved: with a right answer)"
    return f"{title}\n{plain(detail_rows(results))}\n"


def detail_rows(results: Sequence[Result]) -> list[list[str]]:
    """A head and a row a result: avg@n, majority votes, distinct answers, solved problems, lengths.

    maj@n: the commonest answer of all n is right. solved: problems with at least one right answer.
    """
    rows = [["", "avg@n", "maj@n", "distinct answers", "solved", "tokens when ended", "tokens when cut off"]]
    for each in results:
        records = [source.record for source in each.sources]
        stops = [record.get("lengths", {}) for record in records]
        rows.append([row_name(each), interval_cell(each, 1) if 1 in each.ks else "-", _majority_cell(records),
                     _mean([record.get("distinct_answers") for record in records], ".1f"),
                     _mean([record.get("solved") for record in records], ".1f") + f" of {records[0]['problems']}",
                     *(_mean([stop[kind]["mean"] for stop in stops if kind in stop], ".1f")
                       for kind in ("eos", "length"))])
    return rows


def _majority_cell(records: Sequence[Mapping[str, Any]]) -> str:
    votes = [list(record["maj_at_k"].values())[-1] for record in records if record.get("maj_at_k")]
    if not votes:
        return "-"
    mean, low, high = (percent(float(np.mean(part))) for part in zip(*votes, strict=True))
    return f"{mean} [{low}, {high}]" if len(votes) == 1 else mean


def _mean(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return format(float(np.mean(known)), form) if known else "-"


def _group_cell(row: tuple[int, float, float, float] | None) -> str:
    if row is None:
        return "-"
    mean, low, high = (percent(share) for share in row[1:])
    return f"{mean} [{low}, {high}]"


def summary_sentence(before: Result | None, after: Result, report: str | None = None) -> str:
    """ "W-REINFORCE, 70 steps: Pass@1 25.0 -> 31.0 (+6.0, 95 % interval +4.1 to +7.9), ...; report: PATH".

    Smallest and largest k that both have. Where the paired interval of the difference contains zero it
    says "no clear change", and where the problems differ it gives no difference at all. Without `before` it only says
    where `after` is.
    """
    change = difference(after, before) if before else None
    ks = [k for k in after.ks if k in before.ks] if before else []
    ends = () if before else dict.fromkeys((after.ks[0], after.ks[-1]))
    parts = [f"Pass@{k} {percent(after.at(k)[0])}" for k in ends]
    for k in dict.fromkeys((ks[0], ks[-1]) if ks else ()):
        note = _change_note(change, k) if change else "different problems: not comparable"
        parts.append(f"Pass@{k} {percent(before.at(k)[0])} -> {percent(after.at(k)[0])} ({note})")
    seeds = f", {len(after.seeds)} seeds" if len(after.seeds) > 1 else ""
    tail = f"; report: {report}" if report else ""
    return f"{after.name}, {after.step} steps{seeds}: {', '.join(parts) or 'no common k to compare'}{tail}"


def percent(share: float) -> str:
    """0.312 -> "31.2"."""
    return f"{100 * share:.1f}"


def points(share: float) -> str:
    """0.06 -> "+6.0": a difference of two percentages; never "-0.0"."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"


def change_cell(change: Change | None, k: int) -> str:
    """ "+6.0 [+4.1, +7.9]", with "unclear" where that contains zero; "-" without a change."""
    if change is None or k not in change.ks:
        return "-"
    mean, low, high = (points(share) for share in change.at(k))
    return f"{mean} [{low}, {high}]" + ("" if change.clear(k) else " unclear")


def interval_cell(each: Result, k: int) -> str:
    """ "25.0 [22.1, 28.0]" in percent; "-" where k has no estimate."""
    if k not in each.ks:
        return "-"
    mean, low, high = (percent(share) for share in each.at(k))
    return f"{mean} [{low}, {high}]"


def mean_cell(each: Result, name: str, form: str) -> str:
    """One of the evaluation's other numbers, or "-"."""
    return format(each.means[name], form) if name in each.means else "-"


def key_ks(ks: Sequence[int], count: int = 3) -> list[int]:
    """The smallest, the largest and evenly spaced ones between: (1, 2, ..., 256) -> [1, 16, 256]."""
    if len(ks) <= count:
        return list(ks)
    return [ks[round(position * (len(ks) - 1) / (count - 1))] for position in range(count)]


def row_name(each: Result) -> str:
    """ "W-REINFORCE, step 70", with the number of seeds where there are several."""
    seeds = f" ({len(each.seeds)} seeds)" if len(each.seeds) > 1 else ""
    return each.name + ("" if each.step == 0 else f", step {each.step}") + seeds


def _change_note(change: Change, k: int) -> str:
    mean, low, high = (points(share) for share in change.at(k))
    return f"{'' if change.clear(k) else 'no clear change: '}{mean}, 95 % interval {low} to {high}"


def _problems(results: Sequence[Result]) -> str:
    counts = sorted({each.per_problem.shape[1] for each in results})
    return f"{' or '.join(map(str, counts))} problems"


def _means_table(results: Sequence[Result]) -> list[list[str]]:
    ks = sorted(set().union(*(each.ks for each in results)))
    rows = [["k", *map(str, ks), "entropy", "length"]]
    for each in results:
        means = [percent(each.at(k)[0]) if k in each.ks else "-" for k in ks]
        rows.append([row_name(each), *means, mean_cell(each, "entropy", ".3f"), mean_cell(each, "length", ".1f")])
    return rows


def _intervals_table(results: Sequence[Result]) -> list[list[str]]:
    base = base_of(results)
    ks = key_ks(sorted(set.intersection(*(set(each.ks) for each in results))), count=2)
    rows = [["", *(heading for k in ks for heading in (f"Pass@{k}", f"change at {k}"))]]
    for each in results:
        change = difference(each, base) if base is not None and each is not base else None
        rows.append([row_name(each), *(cell for k in ks for cell in (interval_cell(each, k), change_cell(change, k)))])
    return rows


def plain(rows: Sequence[Sequence[str]]) -> str:
    """Columns by their widest cell, the first one cut so that the whole fits `WIDTH`."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    room = WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1)
    widths[0] = min(widths[0], max(room, 1))
    lines = []
    for row in rows:
        name = row[0] if len(row[0]) <= widths[0] else row[0][: widths[0] - 1] + "…"
        lines.append(
            "  ".join(
                [name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
            )
        )
    rule = "-" * len(lines[0])
    return "\n".join(line.rstrip() for line in [lines[0], rule, *lines[1:]])


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """The same rows as a table of Markdown."""
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    ruler = [":--", *["--:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ruler, *body])
