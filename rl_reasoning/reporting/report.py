"""The report of one run or of several side by side: one HTML file that needs nothing else.

It loads nothing, and its one script shows answers; the text of models, problems and settings is escaped. The same
run folders give the same bytes.
"""

import os
import pathlib
from collections.abc import Sequence

from rl_reasoning.reporting import figures
from rl_reasoning.reporting.browser import browser_section
from rl_reasoning.reporting.browser_script import SCRIPT
from rl_reasoning.reporting.glossary import EVALUATION, METRICS
from rl_reasoning.reporting.page import bullets, page, text
from rl_reasoning.reporting.report_results import problems_section, results_section
from rl_reasoning.reporting.report_training import (
    Styles,
    cost_section,
    css_color,
    settings_section,
    training_sections,
)
from rl_reasoning.reporting.results import Result, base_of, collect, final_of, run_names
from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.reporting.samples import outcome_section, sample_section
from rl_reasoning.reporting.table import percent, row_name, summary_sentence


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
    browser = browser_section(results, styles)
    body = [
        f"<h1>{text(title)}</h1>",
        _headline(results, styles),
        _facts(folders, results),
        results_section(results, styles),
        problems_section(results, styles),
        training_sections(folders, names, styles),
        outcome_section(results),
        browser,
        sample_section(folders, names),
        cost_section(folders, names),
        settings_section(folders, names),
        _glossary_section(folders),
    ]
    path = pathlib.Path(path)
    aside = path.with_name(path.name + ".part")
    whole = page(title, [part for part in body if part], SCRIPT if browser else "")
    aside.write_text(whole, encoding="utf-8", newline="\n")
    os.replace(aside, path)
    return path


def _headline(results: Sequence[Result], styles: Styles) -> str:
    base = base_of(results)
    if base is None or not final_of(results):
        return "<p>The runs have no evaluation of the base and of a trained policy yet.</p>"
    items = []
    for each in final_of(results):
        sentence = text(summary_sentence(base, each).replace("->", "→"))
        items.append(f'<li style="--mark: {css_color(each.name, styles)}">{sentence}</li>')
    return f'<ul class="headline">{"".join(items)}</ul>' + bullets(_cautions(results), "note")


def _cautions(results: Sequence[Result]) -> list[str]:
    """What a careful reader should hold against these numbers, as far as the numbers show it."""
    base, finals = base_of(results), final_of(results)
    notes = []
    if all(len(each.seeds) == 1 for each in finals):
        notes.append(
            "One seed a run: the intervals are over problems and leave out how much another seed would change."
        )
    if base and base.interval.mean[-1] >= 0.99:
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
    for each in filter(None, (base, *finals)):
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


def _glossary_section(folders: Sequence[RunFolder]) -> str:
    present = {metric for folder in folders for record in folder.metrics() for metric in record}
    entries = {**EVALUATION, **{metric: line for metric, line in METRICS.items() if metric in present}}
    lines = "".join(f"<dt>{text(name)}</dt><dd>{text(line)}</dd>" for name, line in entries.items())
    return f"<h2>What the words mean</h2><dl>{lines}</dl>"
