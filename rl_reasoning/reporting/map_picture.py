"""The picture of a map of cells: gains, differences at matched Pass@1 with intervals, and both gradients' noise."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rl_reasoning.evaluation.breadth import Difference, Side
from rl_reasoning.reporting.pictures import INK, MUTED, SERIES, Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = {Side.ABOVE: SERIES[0], Side.BELOW: SERIES[1], Side.TIE: INK, Side.UNDECIDED: MUTED}


def map_picture(names: Sequence[str], rows: Sequence[Sequence[Difference]], gains: Sequence[Sequence[float]],
                noise: Sequence[Sequence[float]], pair: tuple[str, str]) -> Picture:
    """A line a cell; panels for the gains, for each k, and for the noise.

    Args:
      names: of the cells, the first on top. rows: a difference for each k.
      gains: of each cell, both methods' gain of Pass@1. noise: both estimators' variance over squared signal. NaN where
        they are not known.
      pair: what is called first and second, everywhere.
    """
    def draw(figure: "Figure") -> None:
        panels = figure.subplots(1, len(rows[0]) + 2, sharey=True)
        _both(panels[0], 100 * np.asarray(gains, float), pair)
        panels[0].set(title="gain of Pass@1", xlabel="points, at its best")
        for place, axes in enumerate(panels[1:-1]):
            _differences(axes, [row[place] for row in rows], pair)
        _both(panels[-1], np.asarray(noise, float), pair)
        panels[-1].set(title="gradient noise of an update", xlabel="variance over squared mean", xscale="log")
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.5, -0.5)

    return Picture("map", draw, (2.6 * (len(rows[0]) + 2) + 2.0, 0.28 * len(names) + 1.4))


def _differences(axes: "Axes", found: Sequence[Difference], pair: tuple[str, str]) -> None:
    margin = 100 * found[0].margin
    axes.set(title=f"{pair[0]} minus {pair[1]} at k = {found[0].k}", xlabel="points, at matched Pass@1")
    axes.axvspan(-margin, margin, color=MUTED, alpha=0.12, linewidth=0)
    axes.axvline(0.0, color=INK, linestyle="--", linewidth=1)
    for place, each in enumerate(found):
        color = _COLORS[each.side]
        if np.isfinite([each.low, each.high]).all():
            axes.plot([100 * each.low, 100 * each.high], [place, place], color=color, linewidth=1.6)
        axes.plot([100 * each.mean], [place], color=color, marker="o", markersize=4, linestyle="none")


def _both(axes: "Axes", values: np.ndarray, pair: tuple[str, str]) -> None:
    for column, (name, marker) in enumerate(zip(pair, ("o", "s"), strict=True)):
        axes.plot(values[:, column], np.arange(len(values)), color=SERIES[column], marker=marker, markersize=4,
                  linestyle="none", label=name)
    axes.legend(frameon=False, fontsize=7)
