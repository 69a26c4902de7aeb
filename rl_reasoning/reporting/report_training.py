"""The parts of the report that show a run over its steps: curves, time, settings."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from rl_reasoning.reporting import figures
from rl_reasoning.reporting.glossary import METRICS
from rl_reasoning.reporting.page import details, figure, table, text
from rl_reasoning.reporting.pictures import SERIES, Picture
from rl_reasoning.reporting.run_folder import RunFolder, differing_settings

Styles = Mapping[str, Mapping[str, str]]


def css_color(name: str, styles: Styles) -> str:
    """The colour of a run as the page's variable, so that it follows light and dark."""
    color = styles[name]["color"]
    return f"var(--series-{SERIES.index(color) + 1})" if color in SERIES else "var(--ink)"


def training_sections(folders: Sequence[RunFolder], names: Sequence[str], styles: Styles) -> str:
    """HTML: the curves of training and of the warm start."""
    base = ["Base"] * len(folders)
    learned, warmed = training_curves(folders, names, "rl"), training_curves(folders, base, "warm_start")
    return _training_section("Training by reinforcement learning", "RL step", learned, styles) + _training_section(
        "Warm start of the base", "warm-start step", warmed, styles)


def _training_section(
    heading: str, x_label: str, curves: Mapping[str, Mapping[str, Sequence[figures.Curve]]], styles: Styles
) -> str:
    if not curves:
        return ""
    drawn = {metric: runs for metric, runs in curves.items() if not _constant(runs)}
    panels = [
        figure(figures.training_figure(metric, runs, styles, x_label).embedded(), label=f"{metric} by step")
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


def training_curves(
    folders: Sequence[RunFolder], names: Sequence[str], phase: str
) -> dict[str, dict[str, list[figures.Curve]]]:
    """{metric: {name: [curve of each seed]}}, in the glossary's order and what it does not know last.

    Curves of one name that are equal are one: runs from one kept base all carry its warm start.
    """
    found: dict[str, dict[str, list[figures.Curve]]] = {}
    for folder, name in zip(folders, names, strict=True):
        kept: tuple[str, ...] = ("step", "tokens_per_second")
        speeds = [{name: record[name] for name in kept if name in record} for record in folder.timings(phase)]
        records = folder.metrics(phase) + speeds
        for metric in sorted(set().union(*records) - {"step", "phase"}):
            pairs = [(record["step"], record[metric]) for record in records if metric in record]
            steps, values = (np.array(column, float) for column in zip(*pairs, strict=True))
            curve = steps, values
            known = found.setdefault(metric, {}).setdefault(name, [])
            if not any(np.array_equal(curve, other, equal_nan=True) for other in known):
                known.append(curve)
    order = {metric: place for place, metric in enumerate(METRICS)}
    return {
        metric: found[metric] for metric in sorted(found, key=lambda metric: (order.get(metric, len(order)), metric))
    }


def training_pictures(folders: Sequence[RunFolder], names: Sequence[str], styles: Styles) -> list[Picture]:
    """A picture for each metric that changes during reinforcement learning."""
    curves = training_curves(folders, names, "rl")
    return [figures.training_figure(metric, runs, styles) for metric, runs in curves.items() if not _constant(runs)]


def _constant(runs: Mapping[str, Sequence[figures.Curve]]) -> bool:
    values = np.concatenate([curve for seeds in runs.values() for _, curve in seeds])
    return np.isnan(values).all() or bool((values == values[0]).all())


def _constants(curves: Mapping[str, Mapping], drawn: Mapping[str, Mapping]) -> str:
    still = [f"{metric} = {next(iter(curves[metric].values()))[0][1][0]:g}" for metric in curves if metric not in drawn]
    return f'<p class="note">The same at every step: {text(", ".join(still))}.</p>' if still else ""


def _legend(names: Sequence[str], styles: Styles) -> str:
    items = [
        f'<span><i class="chip" style="border-color: {css_color(name, styles)}; border-top-style: '
        f'{ {"-": "solid", "--": "dashed", ":": "dotted"}[styles[name]["linestyle"]] }"></i>{text(name)}</span>'
        for name in dict.fromkeys(names)
    ]
    return f'<p class="legend">{"".join(items)}</p>'


def cost_section(folders: Sequence[RunFolder], names: Sequence[str]) -> str:
    """HTML: seconds and tokens a second of each run, by part of a step."""
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


def settings_section(folders: Sequence[RunFolder], names: Sequence[str]) -> str:
    """HTML: the settings in which the runs differ, all settings, and the versions of packages."""
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


