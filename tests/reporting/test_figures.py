"""Pictures: deterministic, valid, recolourable, and drawn where the numbers say."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from rl_reasoning.reporting import figures
from rl_reasoning.reporting.results import collect


@pytest.fixture(scope="module")
def results(make_run_in, tmp_path_factory):
    parent = tmp_path_factory.mktemp("runs")
    runs = {
        "psr": {5: (1, 2, 3, 4, 6, 8), 10: (2, 3, 4, 5, 7, 8)},
        "nsr": {5: (0, 1, 3, 4, 6, 8), 10: (1, 2, 4, 5, 7, 8)},
    }
    return collect([make_run_in(parent, algorithm=name, evaluations=evaluations) for name, evaluations in runs.items()])


@pytest.fixture(scope="module")
def drawn(results):
    return every_figure(results)


def every_figure(results):
    styles = figures.style([each.name for each in results])
    curves = {"PSR": [(np.arange(1, 11), np.linspace(0.1, 0.4, 10))]}
    return [picture.embedded() for picture in (
        figures.pass_at_k_figure(results, styles),
        figures.change_figure(results, styles),
        figures.trade_off_figure(results, styles),
        figures.training_figure("reward/mean", curves, styles),
    )]


def test_figures_are_the_same_bytes_each_time(results, drawn):
    assert every_figure(results) == drawn


def test_figures_are_valid_and_hold_no_date_or_font_or_fixed_size(drawn):
    for svg in drawn:
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith("svg")
        assert "viewBox" in root.attrib
        assert "width" not in root.attrib
        assert "<metadata" not in svg
        assert "DejaVu" not in svg


def test_names_are_text_and_colours_are_variables(drawn):
    svg = drawn[0]
    for name in ("Base", "PSR", "NSR"):
        assert f">{name}</text>" in svg
    assert "var(--series-1, #0072b2)" in svg
    assert "var(--ink, " in svg
    assert figures.SERIES[0] not in svg.replace("var(--series-1, #0072b2)", "")


def test_ids_of_two_figures_on_a_page_differ(drawn):
    ids = [{element.get("id") for element in ElementTree.fromstring(svg).iter()} - {None} for svg in drawn]
    assert all(ids)
    assert sum(map(len, ids)) == len(set.union(*ids))


def test_references_inside_a_figure_resolve(drawn):
    for svg in drawn:
        ids = {element.get("id") for element in ElementTree.fromstring(svg).iter()}
        for element in ElementTree.fromstring(svg).iter():
            reference = element.get("{http://www.w3.org/1999/xlink}href")
            assert reference is None or reference[1:] in ids


def test_there_is_no_change_without_a_base(results):
    finals = [each for each in results if not each.is_base]
    assert figures.change_figure(finals, figures.style([each.name for each in finals])) is None


def test_style_is_stable_and_keeps_many_runs_apart():
    names = [f"run {index}" for index in range(12)]
    styles = figures.style(["Base", *names])
    assert styles["Base"]["color"] == figures.INK
    assert len({tuple(styles[name].values()) for name in names}) == 12
    assert figures.style(names)["run 3"] == styles["run 3"]


def test_moving_average_leaves_nan_out_and_short_curves_alone():
    short = np.arange(10.0)
    np.testing.assert_array_equal(figures.moving_average(short), short)
    values = np.ones(60)
    values[10:20] = np.nan
    smooth = figures.moving_average(values)
    assert np.isnan(smooth[15])
    np.testing.assert_allclose(smooth[np.isfinite(smooth)], 1.0)
    step = np.repeat([0.0, 1.0], 30)
    np.testing.assert_allclose(figures.moving_average(step)[28:32], [0.2, 0.4, 0.6, 0.8])


def test_only_noise_is_smoothed():
    """A schedule with a kink and a smooth decay are drawn as they are."""
    steps = np.arange(1, 61, dtype=float)
    noisy = 0.25 + 0.05 * np.random.default_rng(0).standard_normal(60)
    assert figures._jitters(noisy)
    assert not figures._jitters(np.minimum(steps / 8, 1.0))
    assert not figures._jitters(np.exp(-steps / 20))
    assert not figures._jitters(np.full(60, np.nan))


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ([0.0, 5.0], [0.0, 5.0]),
        ([1.0, 1.0], [0.5, 1.5]),
        ([1.0, 1.0, 1.0], [0.0, 1.0, 2.0]),
        ([2.0, 0.0, 2.2], [1.6, 0.0, 2.6]),
        ([3.0], [3.0]),
    ],
)
def test_spread_moves_labels_as_little_as_it_takes(positions, expected):
    np.testing.assert_allclose(figures.spread(positions, 1.0), expected)


def test_spread_always_leaves_the_gap():
    positions = np.random.default_rng(0).random(12)
    moved = figures.spread(positions, 0.2)
    assert np.diff(np.sort(moved)).min() > 0.2 - 1e-12
    np.testing.assert_array_equal(np.argsort(moved), np.argsort(positions))
    assert moved.mean() == pytest.approx(positions.mean(), abs=0.2)


def test_pictures_are_files_too(results, tmp_path):
    picture = figures.pass_at_k_figure(results, figures.style([each.name for each in results]))
    svg, png = picture.save(tmp_path)
    assert ElementTree.fromstring(svg.read_text()).tag.endswith("svg")
    content = png.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert picture.save(tmp_path)[1].read_bytes() == content
