"""The picture of a map of cells: differences at matched Pass@1 with their intervals, and both gradients' noise."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rl_reasoning.evaluation.breadth import Difference, Side
from rl_reasoning.reporting.pictures import INK, MUTED, SERIES, Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = {Side.ABOVE: SERIES[0], Side.BELOW: SERIES[1], Side.TIE: INK, Side.UNDECIDED: MUTED}


def map_picture(names: Sequence[str], rows: Sequence[Sequence[Difference]], noise: Sequence[Sequence[float]],
                pair: tuple[str, str]) -> Picture:
    """A line a cell; a panel for each k, and one for the noise.

    Args:
      names: of the cells, the first on top. rows: a difference for each k.
      noise: of each cell, both estimators' variance over squared signal; NaN where it is not known.
      pair: what is called first and second.
    """
    def draw(figure: "Figure") -> None:
        panels = figure.subplots(1, len(rows[0]) + 1, sharey=True)
        for place, axes in enumerate(panels[:-1]):
            _differences(axes, [row[place] for row in rows], pair)
        _noise(panels[-1], np.asarray(noise, float), pair)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.5, -0.5)

    return Picture("map", draw, (3.0 * (len(rows[0]) + 1) + 2.0, 0.28 * len(names) + 1.4))


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


def _noise(axes: "Axes", noise: np.ndarray, pair: tuple[str, str]) -> None:
    axes.set(title="gradient noise of an update", xlabel="variance over squared mean", xscale="log")
    for column, (name, marker) in enumerate(zip(pair, ("o", "s"), strict=True)):
        axes.plot(noise[:, column], np.arange(len(noise)), color=SERIES[column], marker=marker, markersize=4,
                  linestyle="none", label=name)
    axes.legend(frameon=False, fontsize=7)
