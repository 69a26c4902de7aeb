"""scripts/report.py: one page and its files."""

import csv
import importlib.util
import pathlib

import numpy as np
import pytest

from rl_reasoning.evaluation.pass_at_k import pass_at_k

BASE_RIGHT = (0, 1, 2, 4, 6, 8)
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def main():
    spec = importlib.util.spec_from_file_location("report_under_test", ROOT / "scripts" / "report.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_a_page_and_files_with_the_same_numbers(main, make_run_in, tmp_path, capsys):
    """A folder that holds two runs; the CSV has every k, and pictures come as SVG and PNG."""
    for algorithm in ("psr", "nsr"):
        make_run_in(tmp_path / "runs", algorithm=algorithm)
    out, files = tmp_path / "page.html", tmp_path / "files"
    assert main([str(tmp_path / "runs"), "--out", str(out), "--files", str(files), "--title", "Two runs"]) == 0
    assert "<h1>Two runs</h1>" in out.read_text("utf-8")
    assert sorted(map(str, files.iterdir())) == sorted(capsys.readouterr().out.split()[1:])
    assert {"pass-at-k.svg", "pass-at-k.png", "problems-nsr.png", "training-rl-step-reward-mean.svg"} <= {
        path.name for path in files.iterdir()}
    rows = [row for row in csv.DictReader((files / "pass_at_k.csv").open()) if row["policy"] == "Base"]
    assert [int(row["k"]) for row in rows] == list(range(1, 9))
    expected = pass_at_k(np.array(BASE_RIGHT), np.full(6, 8), range(1, 9)).mean(axis=0)
    np.testing.assert_allclose([float(row["mean"]) for row in rows], expected)
    training = list(csv.DictReader((files / "training.csv").open()))
    assert {(row["run"], row["step"], row["value"]) for row in training if row["metric"] == "policy/entropy"} >= {
        ("PSR", "1", "1.0"), ("NSR", "2", "0.5")}


def test_no_run_is_an_error(main, tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert "is no run folder and holds none" in capsys.readouterr().err
