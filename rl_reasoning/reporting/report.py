"""The report of one run or of several side by side: one HTML file that needs nothing else.

It loads nothing and runs nothing; the text of models, problems and settings is escaped. The same run
folders give the same bytes.
"""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from rl_reasoning.reporting import figures
from rl_reasoning.reporting.glossary import EVALUATION, METRICS
from rl_reasoning.reporting.page import bullets, details, figure, page, table, text
from rl_reasoning.reporting.results import Change, Result, base_of, collect, difference, final_of, run_names
from rl_reasoning.reporting.run_folder import RunFolder, differing_settings
from rl_reasoning.reporting.samples import outcome_section, sample_section
from rl_reasoning.reporting.table import (
    breakdown_rows,
    change_cell,
    facts_of,
    interval_cell,
    percent,
    row_name,
    summary_sentence,
)

Styles = Mapping[str, Mapping[str, str]]


def write_report(path: str | os.PathLike, folders: Sequence[RunFolder], title: str) -> pathlib.Path:
    """Writes the report of these runs to `path`, an HTML file, in place of an older one.

    Runs of one algorithm that differ only in the seed are shown as one: the mean over seeds, with intervals
    over seeds and problems. What a run has not recorded yet is left out.

    Args:
      path: the file.
      folders: at least one run.
      title: the headline; plain text.

    Returns:
      The path.

    Raises:
      ValueError: no folders, or runs of one name were evaluated on different problems.
    """
    if not folders:
        raise ValueError("a report needs at least one run folder")
    names = run_names(folders)
    results = collect(folders)
    styles = figures.style([each.name for each in results] + names)
    body = [
        f"<h1>{text(title)}</h1>",
        _headline(results, styles),
        _facts(folders, results),
        _results_section(results, styles),
        _training_sections(folders, names, styles),
        outcome_section(results),
        sample_section(folders, names),
        _cost_section(folders, names),
        _settings_section(folders, names),
        _glossary_section(folders),
    ]
    path = pathlib.Path(path)
    aside = path.with_name(path.name + ".part")
    aside.write_text(page(title, [part for part in body if part]), encoding="utf-8", newline="\n")
    os.replace(aside, path)
    return path


def _headline(results: Sequence[Result], styles: Styles) -> str:
    base = base_of(results)
    if base is None or not final_of(results):
        return "<p>The runs have no evaluation of the base and of a trained policy yet.</p>"
    items = []
    for each in final_of(results):
        sentence = text(summary_sentence(base, each).replace("->", "→"))
        items.append(f'<li style="--mark: {_css_color(each.name, styles)}">{sentence}</li>')
    return f'<ul class="headline">{"".join(items)}</ul>' + bullets(_cautions(results), "note")


def _css_color(name: str, styles: Styles) -> str:
    color = styles[name]["color"]
    return f"var(--series-{figures.SERIES.index(color) + 1})" if color in figures.SERIES else "var(--ink)"


def _cautions(results: Sequence[Result]) -> list[str]:
    """What a careful reader should hold against these numbers, as far as the numbers show it."""
    base, finals = base_of(results), final_of(results)
    notes = []
    if all(len(each.seeds) == 1 for each in finals):
        notes.append(
            "One seed a run: the intervals are over problems and leave out how much another seed would change."
        )
    if base.interval.mean[-1] >= 0.99:
        notes.append(
            f"The base reaches {percent(base.interval.mean[-1])} % at k={base.ks[-1]}: there is no room above it to "
            "improve at large k."
        )
    comparisons = 2 * len(finals)
    if comparisons > 4:
        notes.append(
            f"{comparisons} intervals are read here together. Of that many, about {0.05 * comparisons:.1f} would "
            "leave out zero by chance alone."
        )
    for each in (base, *finals):
        for name, limit, what in (("unscorable", 0.0, "could not be checked"), ("truncated", 0.02, "ran out of room")):
            if each.means.get(name, 0.0) > limit:
                notes.append(f"{text(row_name(each))}: {percent(each.means[name])} % of the answers {what}.")
    return notes


def _facts(folders: Sequence[RunFolder], results: Sequence[Result]) -> str:
    if not results:
        return ""
    kinds = {str(folder.config()["config"].get("task", {}).get("kind", "")) for folder in folders} - {""}
    seeds = sorted({seed for each in results for seed in each.seeds})
    facts = [
        *([f"Task: {', '.join(sorted(kinds))}"] if kinds else []),
        f"{results[0].per_problem.shape[1]} held-out problems, {results[0].samples} answers each",
        f"{len(folders)} run{'s' if len(folders) > 1 else ''}, seed{'s' if len(seeds) > 1 else ''} "
        f"{', '.join(map(str, seeds))}",
    ]
    return f'<p class="note">{text(". ".join(facts))}.</p>'


def _results_section(results: Sequence[Result], styles: Styles) -> str:
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
    if len(results) > len(shown):
        parts.append(details("All evaluations along training", _pass_table(results)))
    return "\n".join(parts)


def _pictures(results: Sequence[Result], styles: Styles) -> str:
    wide = [
        figure(
            figures.pass_at_k_figure(results, styles),
            "Chance that at least one of k answers is right. Shaded: 95 % interval.",
            "Pass@k against k",
        )
    ]
    change = figures.change_figure(results, styles)
    if change:
        wide.append(
            figure(
                change,
                "The same, minus the base on the same problems. Shaded: paired 95 % interval; where it "
                "touches the dashed line there is no clear change.",
                "Change of Pass@k from the base",
            )
        )
    if any(sum(each.name == final.name for each in results) > 1 for final in final_of(results)):
        wide.append(
            figure(
                figures.trade_off_figure(results, styles),
                _trade_off_caption(results),
                "Pass@k at the largest k against Pass@1 along training",
            )
        )
    return f'<div class="wide">{"".join(wide)}</div>'


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
    if cell == "-":
        return cell
    kind = "unclear" if not change.clear(k) else "up" if change.at(k)[0] > 0 else "down"
    return f'<span class="{kind}">{_two_lines(cell.removesuffix(" unclear"))}</span>'


def _two_lines(cell: str) -> str:
    mean, _, interval = cell.partition(" ")
    return f"{mean}<small>{interval}</small>" if interval else mean


def _training_sections(folders: Sequence[RunFolder], names: Sequence[str], styles: Styles) -> str:
    base = ["Base"] * len(folders)
    return _training_section(
        "Training by reinforcement learning", "RL step", _curves(folders, names, "rl"), styles
    ) + _training_section("Warm start of the base", "warm-start step", _curves(folders, base, "warm_start"), styles)


def _training_section(
    heading: str, x_label: str, curves: Mapping[str, Mapping[str, Sequence[figures.Curve]]], styles: Styles
) -> str:
    if not curves:
        return ""
    drawn = {metric: runs for metric, runs in curves.items() if not _constant(runs)}
    panels = [
        figure(figures.training_figure(metric, runs, styles, x_label), label=f"{metric} by step")
        for metric, runs in drawn.items()
    ]
    names = list(dict.fromkeys(name for runs in curves.values() for name in runs))
    note = '<p class="note">Faint: each step. Strong: the mean over seeds, as a moving average where it jitters.</p>'
    return "\n".join(
        [
            f"<h2>{heading}</h2>",
            _legend(names, styles),
            f'<div class="panels">{"".join(panels)}</div>',
            note,
            _constants(curves, drawn),
        ]
    )


def _curves(
    folders: Sequence[RunFolder], names: Sequence[str], phase: str
) -> dict[str, dict[str, list[figures.Curve]]]:
    """{metric: {name: [curve of each seed]}}, in the glossary's order and what it does not know last.

    Curves of one name that are equal are one: runs from one kept base all carry its warm start.
    """
    found: dict[str, dict[str, list[figures.Curve]]] = {}
    for folder, name in zip(folders, names, strict=True):
        records = folder.metrics(phase)
        for metric in sorted(set().union(*records) - {"step", "phase"}):
            pairs = [(record["step"], record[metric]) for record in records if metric in record]
            curve = tuple(np.array(column, float) for column in zip(*pairs, strict=True))
            known = found.setdefault(metric, {}).setdefault(name, [])
            if not any(np.array_equal(curve, other, equal_nan=True) for other in known):
                known.append(curve)
    order = {metric: place for place, metric in enumerate(METRICS)}
    return {
        metric: found[metric] for metric in sorted(found, key=lambda metric: (order.get(metric, len(order)), metric))
    }


def _constant(runs: Mapping[str, Sequence[figures.Curve]]) -> bool:
    values = np.concatenate([curve for seeds in runs.values() for _, curve in seeds])
    return np.isnan(values).all() or bool((values == values[0]).all())


def _constants(curves: Mapping[str, Mapping], drawn: Mapping[str, Mapping]) -> str:
    still = [f"{metric} = {next(iter(curves[metric].values()))[0][1][0]:g}" for metric in curves if metric not in drawn]
    return f'<p class="note">The same at every step: {text(", ".join(still))}.</p>' if still else ""


def _legend(names: Sequence[str], styles: Styles) -> str:
    items = [
        f'<span><i class="chip" style="border-color: {_css_color(name, styles)}; border-top-style: '
        f'{ {"-": "solid", "--": "dashed", ":": "dotted"}[styles[name]["linestyle"]] }"></i>{text(name)}</span>'
        for name in dict.fromkeys(names)
    ]
    return f'<p class="legend">{"".join(items)}</p>'


def _cost_section(folders: Sequence[RunFolder], names: Sequence[str]) -> str:
    rows = []
    for folder, name in zip(folders, names, strict=True):
        records = folder.timings("rl")
        if records:
            parts = sorted({key for record in records for key in record if key.startswith("time/")})
            sums = {key.removeprefix("time/"): sum(record.get(key, 0.0) for record in records) for key in parts}
            shares = ", ".join(f"{key} {seconds:.1f} s" for key, seconds in sums.items())
            speeds = [record["tokens_per_second"] for record in records if "tokens_per_second" in record]
            speed = f"{np.nanmedian(speeds):,.0f}" if speeds else "-"
            rows.append(
                [
                    text(name),
                    text(folder.path.name),
                    str(len(records)),
                    f"{sum(sums.values()):.1f} s",
                    text(shares),
                    speed,
                ]
            )
    head = ["run", "folder", "RL steps", "measured time", "of which", "tokens a second, median"]
    return f"<h2>Time</h2>{table(head, rows)}" if rows else ""


def _settings_section(folders: Sequence[RunFolder], names: Sequence[str]) -> str:
    configs = [folder.config() for folder in folders]
    parts = ["<h2>Settings and versions</h2>"]
    differing = differing_settings([config["config"] for config in configs])
    if differing:
        rows = [
            [f"<code>{text(setting)}</code>", *(text(json.dumps(value)) for value in values)]
            for setting, values in differing.items()
        ]
        parts += [
            "<h3>Settings that differ</h3>",
            table(["setting", *(text(folder.path.name) for folder in folders)], rows, kind="text"),
        ]
    versions = ", ".join(f"{package} {version}" for package, version in configs[0]["versions"].items())
    parts.append(f'<p class="note">{text(versions)}</p>' if versions else "")
    for folder, name, config in zip(folders, names, configs, strict=True):
        command = f"<p><code>{text(' '.join(config['command']))}</code></p>"
        shown = f"<pre>{text(json.dumps(config['config'], indent=2))}</pre>"
        parts.append(details(f"All settings of {text(name)} ({text(folder.path.name)})", command + shown))
    return "\n".join(parts)


def _glossary_section(folders: Sequence[RunFolder]) -> str:
    present = {metric for folder in folders for record in folder.metrics() for metric in record}
    entries = {**EVALUATION, **{metric: line for metric, line in METRICS.items() if metric in present}}
    lines = "".join(f"<dt>{text(name)}</dt><dd>{text(line)}</dd>" for name, line in entries.items())
    return f"<h2>What the words mean</h2><dl>{lines}</dl>"
