"""The part of the report that compares Pass@k: pictures, tables, and which problems were gained and lost."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rl_reasoning.reporting import figures
from rl_reasoning.reporting.page import details, figure, table, text
from rl_reasoning.reporting.pictures import Picture
from rl_reasoning.reporting.results import Change, Result, base_of, difference, final_of
from rl_reasoning.reporting.table import breakdown_rows, change_cell, detail_rows, facts_of, interval_cell, row_name

Styles = Mapping[str, Mapping[str, str]]
_MOST_LISTED = 60


def results_section(results: Sequence[Result], styles: Styles) -> str:
    """HTML: Pass@k of every result, its change from the base, and what the numbers leave open; "" without results."""
    if not results:
        return ""
    base, finals = base_of(results), final_of(results)
    shown = [each for each in (base, *finals) if each is not None]
    parts = [
        "<h2>Pass@k on held-out problems</h2>",
        _pictures(results, styles),
        "<h3>Pass@k in percent, with 95 % intervals</h3>",
        _pass_table(shown),
    ]
    changes = [(each, difference(each, base)) for each in finals] if base else []
    if any(change for _, change in changes):
        parts += [
            "<h3>Change from the base in points, with paired 95 % intervals</h3>",
            _change_table(changes),
            '<p class="note">Grey: the interval contains zero, so there is no clear change.</p>',
        ]
    for fact in facts_of(shown):
        head, *rows = breakdown_rows(shown, fact)
        parts += [
            f"<h3>Pass@1 by {text(fact)} in percent, with 95 % intervals</h3>",
            table([text(cell) for cell in head], [[text(row[0]), *map(_two_lines, row[1:])] for row in rows]),
        ]
    head, *rows = detail_rows(shown)
    parts += ["<h3>All answers together</h3>",
              table([text(cell) for cell in head], [[text(row[0]), *map(_two_lines, row[1:])] for row in rows]),
              '<p class="note">avg@n: share of right answers. maj@n: the commonest answer of all n is right. Solved: '
              "problems with a right answer.</p>"]
    if len(results) > len(shown):
        parts.append(details("All evaluations along training", _pass_table(results)))
    return "\n".join(parts)


class Shown(NamedTuple):
    """A picture with its caption (HTML) and a label for those who cannot see it."""

    picture: Picture
    caption: str
    label: str


def result_pictures(results: Sequence[Result], styles: Styles) -> list[Shown]:
    """Pass@k, its change from the base, and its path along training, each where there is something to show."""
    if not results:
        return []
    shown = [Shown(figures.pass_at_k_figure(results, styles),
                   "Chance that at least one of k answers is right. Shaded: 95 % interval.", "Pass@k against k")]
    change = figures.change_figure(results, styles)
    if change:
        shown.append(Shown(change, "The same, minus the base on the same problems. Shaded: paired 95 % interval; where "
                           "it touches the dashed line there is no clear change.", "Change of Pass@k from the base"))
    if any(sum(each.name == final.name for each in results) > 1 for final in final_of(results)):
        shown.append(Shown(figures.trade_off_figure(results, styles), _trade_off_caption(results),
                           "Pass@k at the largest k against Pass@1 along training"))
    return shown


def _pictures(results: Sequence[Result], styles: Styles) -> str:
    drawn = [figure(each.picture.embedded(), each.caption, each.label) for each in result_pictures(results, styles)]
    return f'<div class="wide">{"".join(drawn)}</div>'


def problem_pictures(results: Sequence[Result], styles: Styles) -> list[Picture]:
    """Each policy's problems against those of the one that it is compared with."""
    return [figures.problems_figure(before, after, styles) for before, after in pairs_of(results)]


def pairs_of(results: Sequence[Result]) -> list[tuple[Result, Result]]:
    """Each last result with the base; without a base, with the first of them. Same problems only."""
    finals = final_of(results)
    if not finals:
        return []
    before = base_of(results) or finals[0]
    return [(before, after) for after in finals if after is not before and after.problem_set == before.problem_set
            and after.per_problem.shape[1] == before.per_problem.shape[1]]


def problems_section(results: Sequence[Result], styles: Styles) -> str:
    """Which problems one policy solves that the other does not, and how each problem's accuracy moved."""
    pairs = [(before, after) for before, after in pairs_of(results) if before.ids and before.ids == after.ids]
    if not pairs:
        return ""
    rows, lists = [], []
    for before, after in pairs:
        solved = [each.right.sum(axis=0) > 0 for each in (before, after)]
        gained, lost = (np.flatnonzero(one & ~other) for one, other in (solved[::-1], solved))
        rows.append([f"{text(row_name(before))} → {text(row_name(after))}", *(str(int(each.sum())) for each in solved),
                     str(len(gained)), str(len(lost))])
        for word, found in (("gained", gained), ("lost", lost)):
            if len(found):
                names = ", ".join(f"{text(before.ids[at])} ({before.right[:, at].sum()} → {after.right[:, at].sum()})"
                                  for at in found[:_MOST_LISTED])
                more = f" and {len(found) - _MOST_LISTED} more" if len(found) > _MOST_LISTED else ""
                lists.append(f"<dt>{word} by {text(after.name)}</dt><dd>{names}{more}</dd>")
    panels = [figure(picture.embedded(), label="accuracy of each problem before and after")
              for picture in problem_pictures(results, styles)]
    listed = details("Their names, with right answers before and after", f"<dl>{''.join(lists)}</dl>") if lists else ""
    note = ('<p class="note">Solved: at least one right answer among all. A problem that is rarely solved comes and '
            "goes by chance: two evaluations of one policy would differ, too.</p>")
    head = ["", "solved before", "solved after", "gained", "lost"]
    return "\n".join(["<h2>Problems gained and lost</h2>", table(head, rows), note, listed,
                      f'<div class="panels">{"".join(panels)}</div>'])


def _trade_off_caption(results: Sequence[Result]) -> str:
    steps = sorted({each.step for each in results if not each.is_base})
    return (
        "Breadth against accuracy while training goes on, from the base (star); up and right is better. Markers are "
        f"the evaluations at steps {', '.join(map(str, steps))}, the cross is the last one's 95 % interval. Compare "
        "runs at the same Pass@1: a run that is merely slower lies on the same path."
    )


def _pass_table(results: Sequence[Result]) -> str:
    ks = sorted(set().union(*(each.ks for each in results)))
    rows = [[text(row_name(each)), *(_two_lines(interval_cell(each, k)) for k in ks)] for each in results]
    return table(["k", *map(str, ks)], rows)


def _change_table(changes: Sequence[tuple[Result, Change | None]]) -> str:
    ks = sorted(set().union(*(change.ks for _, change in changes if change)))
    rows = [[text(row_name(each)), *(_change_html(change, k) for k in ks)] for each, change in changes]
    return table(["k", *map(str, ks)], rows)


def _change_html(change: Change | None, k: int) -> str:
    cell = change_cell(change, k)
    if change is None or cell == "-":
        return cell
    kind = "unclear" if not change.clear(k) else "up" if change.at(k)[0] > 0 else "down"
    return f'<span class="{kind}">{_two_lines(cell.removesuffix(" unclear"))}</span>'


def _two_lines(cell: str) -> str:
    mean, _, interval = cell.partition(" ")
    return f"{mean}<small>{interval}</small>" if interval else mean


