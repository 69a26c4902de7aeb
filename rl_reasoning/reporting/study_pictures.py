"""The picture of a study: Pass@k after training, breadth against accuracy along it, and two paths at matched Pass@1."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rl_reasoning.evaluation.paths import GRID, Path, matched, resample
from rl_reasoning.reporting.figures import style
from rl_reasoning.reporting.pictures import INK, Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RESAMPLES = 500


def study_picture(paths: Mapping[str, Path], ks: Sequence[int], step: int, pair: tuple[str, str]) -> Picture:
    """Three panels.

    Args:
      step: where the first two end.
      pair: names of the two paths whose difference at matched Pass@1 is drawn, first minus second.
    """
    styles = style(list(paths))

    def draw(figure: "Figure") -> None:
        left, middle, right = figure.subplots(1, 3)
        _curves(left, paths, ks, step, styles)
        _trade_off(middle, paths, ks, step, styles)
        _matched(right, paths, ks, step, pair)
        left.legend(fontsize=6.5, frameon=False)

    return Picture("study", draw, (13.5, 4.2))


def _curves(axes: "Axes", paths: Mapping[str, Path], ks: Sequence[int], step: int, styles: Mapping) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.minorticks_off()
    axes.set(xlabel="k, answers a problem", ylabel="change from the base in points", title=f"Pass@k after {step} steps")
    axes.axhline(0.0, color=INK, linestyle="--", linewidth=1)
    for name, path in paths.items():
        base, last = (path.pass_at[:, path.steps.index(at)].mean(axis=(0, 1)) for at in (0, step))
        axes.plot(ks, 100 * (last - base), **styles[name], markersize=4, label=name)


def _trade_off(axes: "Axes", paths: Mapping[str, Path], ks: Sequence[int], step: int, styles: Mapping) -> None:
    axes.set(xlabel=f"Pass@{ks[0]} in percent", ylabel=f"Pass@{ks[-1]} in percent", title="Along training")
    base = next(iter(paths.values())).pass_at[:, 0].mean(axis=(0, 1))
    axes.plot(100 * base[0], 100 * base[-1], marker="*", markersize=13, color=INK, linestyle="none", zorder=3)
    for name, path in paths.items():
        shown = path.upto(step).pass_at.mean(axis=(0, 2))
        axes.plot(100 * shown[:, 0], 100 * shown[:, -1], **styles[name], markersize=4)


def _matched(axes: "Axes", paths: Mapping[str, Path], ks: Sequence[int], step: int, pair: tuple[str, str]) -> None:
    means = resample({name: paths[name] for name in pair}, RESAMPLES, seed=0)
    found = 100 * matched(means[pair[0]], means[pair[1]], lambda each: each.pass_at)
    share = (np.arange(GRID) + 1) / GRID
    axes.set(xlabel=f"Pass@{ks[0]}, as a share of the gain that both reach",
             ylabel=f"{pair[0]} minus {pair[1]} in points", title="At matched Pass@1, with 95 % bands")
    axes.axhline(0.0, color=INK, linestyle="--", linewidth=1)
    for k, color in zip(sorted({len(ks) // 2, len(ks) - 1}), ("#0072b2", "#d55e00"), strict=False):
        low, high = np.nanpercentile(found[1:, :, k], [2.5, 97.5], axis=0) if np.isfinite(found[1:]).any() else (
            np.full(GRID, np.nan), np.full(GRID, np.nan))
        axes.fill_between(share, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(share, found[0, :, k], color=color, label=f"k = {ks[k]}")
    axes.legend(frameon=False)
