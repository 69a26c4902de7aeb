"""scripts/benchmark_gradient_norms.py runs, finds the same norms both ways, and prints a line for each way."""

import importlib.util
import pathlib
import re

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "benchmark_gradient_norms.py"


@pytest.mark.slow
def test_it_prints_every_figure(capsys):
    spec = importlib.util.spec_from_file_location("benchmark_gradient_norms", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sizes = ["layers=1", "width=32", "vocabulary=11", "prompt=3", "tokens=4", "prompts=2", "samples=2", "rounds=1"]
    assert module.main([f"--{size}" for size in sizes]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert float(re.search(r"norms (\S+)$", first)[1]) < 1e-5
    ratios = [float(re.search(r"([0-9.]+) x$", line)[1]) for line in lines]
    assert ratios[0] == 1
    assert len(ratios) == 3
