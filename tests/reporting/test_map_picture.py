"""The picture of a map: what is drawn where."""

import numpy as np
from matplotlib.figure import Figure

from rl_reasoning.evaluation.breadth import Difference
from rl_reasoning.reporting.map_picture import map_picture

NAN = float("nan")


def test_each_panel_shows_its_numbers_under_its_own_name():
    rows = [[Difference(16, 0.03, 0.01, 0.05, 0.02), Difference(64, -0.04, -0.06, -0.02, 0.02)],
            [Difference(16, NAN, NAN, NAN, 0.02)] * 2]
    figure = Figure()
    gains, noise = [(0.01, 0.05), (NAN, NAN)], [(30.0, 3.0), (40.0, 4.0)]
    map_picture(["one", "two"], rows, gains, noise, ("NSR", "PSR")).draw(figure)
    first, at_16, at_64, last = figure.axes
    assert [text.get_text() for text in first.get_yticklabels()] == ["one", "two"]
    shown = {line.get_label(): line.get_xdata() for line in last.get_lines()}
    np.testing.assert_array_equal(shown["NSR"], [30, 40])
    np.testing.assert_array_equal(shown["PSR"], [3, 4])
    assert {line.get_label(): line.get_xdata()[0] for line in first.get_lines()} == {"NSR": 1.0, "PSR": 5.0}
    for axes, mean, color in ((at_16, 3.0, "#0072b2"), (at_64, -4.0, "#d55e00")):
        points = [line for line in axes.get_lines() if line.get_marker() == "o"]
        assert (points[0].get_xdata()[0], points[0].get_color()) == (mean, color)
    assert at_64.get_title(loc="center") == "NSR minus PSR at k = 64"
