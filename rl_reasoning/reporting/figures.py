"""The pictures of results and of training."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rl_reasoning.reporting.pictures import INK, MUTED, SERIES, Picture
from rl_reasoning.reporting.results import Result, base_of, difference, final_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# One curve: steps [n], values [n].
Curve = tuple[np.ndarray, np.ndarray]

_MARKERS = ("o", "s", "^", "D", "v", "P")
_LINES = ("-", "--", ":")
_POINTS_A_LINE = 240
_LABEL_GAP = 11.0


def style(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A colour, marker and line style for each name; the base is black and dashed. Give it every name of a page."""
    runs = [name for name in dict.fromkeys(names) if name != "Base"]
    styles = {"Base": {"color": INK, "marker": "*", "linestyle": "--"}}
    for index, name in enumerate(runs):
        styles[name] = {
            "color": SERIES[index % len(SERIES)],
            "marker": _MARKERS[index % len(_MARKERS)],
            "linestyle": _LINES[index // len(SERIES) % len(_LINES)],
        }
    return styles


def pass_at_k_figure(results: Sequence[Result], styles: Mapping[str, Mapping[str, Any]]) -> Picture:
    """Pass@k in percent against k on a log2 axis, with shaded 95 % intervals: the base and each run's last result."""
    shown = [each for each in (base_of(results), *final_of(results)) if each is not None]

    def draw(figure: "Figure") -> None:
        axes = _axes_over_k(figure, "Pass@k in percent", shown[0].ks)
        for each in shown:
            mean, low, high = (100 * np.asarray(part) for part in each.interval)
            _band(axes, each.ks, mean, low, high, styles[each.name])
        _label_ends(axes, [(each.name, each.ks[-1], 100 * each.interval.mean[-1]) for each in shown], styles)

    return Picture("pass-at-k", draw, (6.2, 4.0))


def change_figure(results: Sequence[Result], styles: Mapping[str, Mapping[str, Any]]) -> Picture | None:
    """Each run's last Pass@k minus the base's, in points, with paired 95 % intervals; None without a base."""
    base = base_of(results)
    pairs = [(each, difference(each, base)) for each in final_of(results)] if base else []
    changes = [(each.name, change) for each, change in pairs if change is not None]
    if not changes:
        return None

    def draw(figure: "Figure") -> None:
        axes = _axes_over_k(figure, "change from the base in points", changes[0][1].ks)
        axes.axhline(0.0, **_line_style(styles["Base"]), linewidth=1.2)
        for name, change in changes:
            mean, low, high = (100 * part for part in change.interval)
            _band(axes, change.ks, mean, low, high, styles[name])
        ends = [(name, change.ks[-1], 100 * change.interval.mean[-1]) for name, change in changes]
        _label_ends(axes, [("Base", changes[0][1].ks[-1], 0.0), *ends], styles)

    return Picture("change", draw, (6.2, 4.0))


def trade_off_figure(results: Sequence[Result], styles: Mapping[str, Mapping[str, Any]]) -> Picture:
    """Pass@largest k against Pass@1 along training, in percent: one path a run from the base, a marker an evaluation.

    The cross at a path's end is that result's 95 % interval on both axes. With one or two runs the markers
    carry their steps.
    """
    low, high = (pick(set.intersection(*(set(each.ks) for each in results))) for pick in (min, max))
    base, finals = base_of(results), final_of(results)

    def draw(figure: "Figure") -> None:
        """On the axes of one figure."""
        axes = figure.subplots()
        axes.set(xlabel="Pass@1 in percent" if low == 1 else f"Pass@{low} in percent", ylabel=f"Pass@{high} in percent")
        for final in finals:
            path = [each for each in results if each is base or each.name == final.name]
            _path(
                axes, [(each.step, each.at(low), each.at(high)) for each in path], styles[final.name], len(finals) <= 2
            )
        if base is not None:
            axes.plot(
                100 * base.at(low)[0], 100 * base.at(high)[0], marker="*", markersize=13, color=INK, linestyle="none"
            )
        ends = finals if base is None else [base, *finals]
        _label_ends(axes, [(each.name, 100 * each.at(low)[0], 100 * each.at(high)[0]) for each in ends], styles)

    return Picture("trade-off", draw, (6.2, 4.4))


def problems_figure(before: Result, after: Result, styles: Mapping[str, Mapping[str, Any]]) -> Picture:
    """Each problem's share of right answers under two policies, the mean over seeds: above the diagonal it gained."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        axes.set(xlabel=f"{before.name}: right in percent", ylabel=f"{after.name}: right in percent")
        axes.plot([0, 100], [0, 100], **_line_style(styles["Base"]), linewidth=0.8)
        x, y = (100 * each.per_problem[:, :, 0].mean(axis=0) for each in (before, after))
        axes.plot(x, y, linestyle="none", marker="o", markersize=4, alpha=0.5, color=styles[after.name]["color"])
        axes.set_aspect("equal")

    return Picture("problems-" + slug(after.name), draw, (3.6, 3.6))


def slug(text: str) -> str:
    """A text as part of an id or of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def training_figure(
    metric: str,
    curves: Mapping[str, Sequence[Curve]],
    styles: Mapping[str, Mapping[str, Any]],
    x_label: str = "RL step",
) -> Picture:
    """One metric against the step: faint lines are the seeds' values, the strong one their mean.

    Where the mean jitters from step to step, the strong line is its moving average.

    Args:
      metric: the title, and part of the ids.
      curves: for each run's name, one (steps, values) a seed; values may be NaN.
    """

    def draw(figure: "Figure") -> None:
        """On the axes of one figure."""
        axes = figure.subplots()
        axes.set(xlabel=x_label, title=metric)
        for name, seeds in curves.items():
            for steps, values in seeds:
                axes.plot(*_thinned(steps, values), color=styles[name]["color"], linewidth=0.7, alpha=0.3)
            steps, values = _thinned(*_seed_mean(seeds))
            axes.plot(steps, moving_average(values) if _jitters(values) else values, **_line_style(styles[name]))
        axes.margins(x=0.02)

    return Picture("training-" + slug(f"{x_label} {metric}"), draw, (3.6, 2.3))


def moving_average(values: np.ndarray) -> np.ndarray:
    """Centred mean over about a fifteenth of the points (an odd number), NaN left out; shorter at both ends."""
    window = (len(values) // 15) | 1
    known = np.isfinite(values)
    kernel = np.ones(window)
    sums = np.convolve(np.where(known, values, 0.0), kernel, mode="same")
    counts = np.convolve(known.astype(float), kernel, mode="same")
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def spread(positions: Sequence[float], gap: float) -> np.ndarray:
    """Moves positions apart, each as little as it takes, until neighbours are at least `gap` apart; order is kept."""
    order = np.argsort(positions, kind="stable")
    blocks: list[tuple[float, int]] = []
    for position in np.asarray(positions, float)[order]:
        center, count = float(position), 1
        # A label that would touch the block before it joins that block, and the block keeps its centre.
        while blocks and center - gap * (count - 1) / 2 < blocks[-1][0] + gap * (blocks[-1][1] + 1) / 2:
            before, size = blocks.pop()
            center, count = (center * count + before * size) / (count + size), count + size
        blocks.append((center, count))
    moved = np.concatenate([center + gap * (np.arange(count) - (count - 1) / 2) for center, count in blocks])
    return moved[np.argsort(order, kind="stable")]


def _axes_over_k(figure: "Figure", label: str, ks: Sequence[int]) -> "Axes":
    axes = figure.subplots()
    axes.set_xscale("log", base=2)
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.minorticks_off()
    axes.set(xlabel="k, answers a problem", ylabel=label)
    return axes


def _line_style(style_of: Mapping[str, Any]) -> dict[str, Any]:
    return {"color": style_of["color"], "linestyle": style_of["linestyle"]}


def _band(
    axes: "Axes", ks: Sequence[int], mean: np.ndarray, low: np.ndarray, high: np.ndarray, style_of: Mapping[str, Any]
) -> None:
    axes.fill_between(ks, low, high, color=style_of["color"], alpha=0.13, linewidth=0)
    size = 7 if style_of["marker"] == "*" else 4
    axes.plot(ks, mean, **style_of, markersize=size)


def _path(
    axes: "Axes", evaluations: Sequence[tuple[int, tuple, tuple]], style_of: Mapping[str, Any], numbered: bool
) -> None:
    x = [100 * first[0] for _, first, _ in evaluations]
    y = [100 * last[0] for _, _, last in evaluations]
    axes.plot(x, y, **style_of, markersize=4.5, linewidth=1.4)
    _, first, last = evaluations[-1]
    axes.hlines(y[-1], 100 * first[1], 100 * first[2], color=style_of["color"], linewidth=1.6, alpha=0.4)
    axes.vlines(x[-1], 100 * last[1], 100 * last[2], color=style_of["color"], linewidth=1.6, alpha=0.4)
    for (step, _, _), at_x, at_y in zip(evaluations[:-1], x, y, strict=False):
        if step and numbered:
            axes.annotate(
                str(step),
                (at_x, at_y),
                (0, -5),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=6.5,
                color=MUTED,
            )


def _label_ends(
    axes: "Axes", ends: Sequence[tuple[str, float, float]], styles: Mapping[str, Mapping[str, Any]]
) -> None:
    """Names right of the axes, each with a dotted line to its curve's end, moved apart where they would overlap."""
    figure = axes.get_figure(root=True)
    assert figure
    figure.draw_without_rendering()
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = [float(to_axes.transform((x, y))[1]) for _, x, y in ends]
    places = spread(heights, _LABEL_GAP / axes.bbox.height)
    for (name, x, y), place in zip(ends, places, strict=True):
        color = styles[name]["color"]
        line = {"arrowstyle": "-", "color": color, "linestyle": ":", "linewidth": 0.8, "shrinkA": 1, "shrinkB": 4}
        axes.annotate(
            name,
            (x, y),
            (1.02, place),
            textcoords="axes fraction",
            va="center",
            color=color,
            fontweight="bold",
            annotation_clip=False,
            arrowprops=line,
        )


def _seed_mean(seeds: Sequence[Curve]) -> Curve:
    """The mean over seeds at the steps that all of them have."""
    steps = np.asarray(seeds[0][0])
    for other, _ in seeds[1:]:
        steps = np.intersect1d(steps, other)
    return steps, np.mean([np.asarray(values)[np.isin(own, steps)] for own, values in seeds], axis=0)


def _jitters(values: np.ndarray) -> bool:
    """Whether a typical bend between steps is more than a fiftieth of the range: noise, and no schedule."""
    known = values[np.isfinite(values)]
    return len(known) > 2 and float(np.mean(np.abs(np.diff(known, 2)))) > 0.02 * float(np.ptp(known))


def _thinned(steps: np.ndarray, values: np.ndarray) -> Curve:
    """Means of equal runs of points where there are more than a line can show."""
    width = -(-len(steps) // _POINTS_A_LINE)
    if width <= 1:
        return np.asarray(steps), np.asarray(values, float)
    edges = np.arange(0, len(steps), width)
    counts = np.diff([*edges, len(steps)])
    return np.add.reduceat(np.asarray(steps, float), edges) / counts, np.add.reduceat(
        np.asarray(values, float), edges
    ) / counts
